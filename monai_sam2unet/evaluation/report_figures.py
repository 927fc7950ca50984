# SPDX-License-Identifier: Apache-2.0
"""Figures of an evaluation as PNG: curves over the thresholds, and how the scores of the images are spread."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle, product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

__all__ = ["draw_curves", "draw_distributions", "draw_reliability"]

STYLES = ("-", "--", ":", "-.")
MAX_POINTS = 1000  # of a set; more of them make a black bar
Curves = Mapping[str, Mapping[str, NDArray[np.float64]]]


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()


def _plain(name: str) -> str:
    """A name as matplotlib is to write it: a dollar sign would start a formula."""
    return name.replace("$", r"\$")


def _looks(names: Iterable[str]) -> list[dict[str, Any]]:
    """How the line of each set is drawn, and what the legend calls it."""
    looks = cycle(product(STYLES, colormaps["tab10"].colors))  # type: ignore[attr-defined]
    # A leading underscore would keep a set out of the legend.
    return [
        {"linestyle": style, "color": colour, "linewidth": 1.4, "label": "\u200b" + _plain(name)}
        for name, (style, colour) in zip(names, looks, strict=False)
    ]


def _finish(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.01)
    axes.grid(alpha=0.3)
    axes.tick_params(labelsize=8)


def draw_curves(curves: Curves) -> bytes:
    """Draw Dice, F-measure and E-measure over the threshold, and precision over recall, a line for each set.

    Args:
        curves: (256,) of each set by name: ``dice``, ``f``, ``e``, ``precision``, ``recall``.

    Returns:
        A PNG file.
    """
    figure = Figure(figsize=(9, 7.2), layout="constrained")
    panels = figure.subplots(2, 2).ravel()
    thresholds = np.arange(256) / 255
    for own, look in zip(curves.values(), _looks(curves), strict=True):
        for axes, curve in zip(panels, ("dice", "f", "e"), strict=False):
            axes.plot(thresholds, own[curve], **look)
        panels[3].plot(own["recall"], own["precision"], **look)
    for axes, title in zip(panels, ("Dice", "F-measure", "E-measure"), strict=False):
        _finish(axes, title, "threshold of the normalised map", title)
    _finish(panels[3], "Precision and recall", "recall", "precision")
    columns = min(4, len(curves))
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=columns, fontsize=8)
    return _png(figure)


def draw_reliability(reliability: Mapping[str, pd.DataFrame]) -> bytes:
    """Draw how often pixels of each probability are foreground, a line for each set.

    Args:
        reliability: of each set, as :func:`monai_sam2unet.evaluation.calibration.reliability_frame` gives it.

    Returns:
        A PNG file.
    """
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    curve, share = figure.subplots(1, 2)
    curve.plot([0, 1], [0, 1], color="gray", linewidth=0.8)
    for own, look in zip(reliability.values(), _looks(reliability), strict=True):
        curve.plot(own["probability"], own["frequency"], marker=".", **look)
        share.plot((own["low"] + own["high"]) / 2, own["pixels"] / own["pixels"].sum(), marker=".", **look)
    _finish(curve, "Reliability", "predicted probability", "share of foreground")
    _finish(share, "Share of the pixels", "predicted probability", "share")
    share.set_ylim(1e-5, 1.2)
    share.set_yscale("log")
    # So many columns as the figure is wide enough for.
    columns = max(1, min(4, len(reliability), 150 // (8 + max(map(len, reliability), default=0))))
    figure.legend(*share.get_legend_handles_labels(), loc="outside lower center", ncols=columns, fontsize=8)
    return _png(figure)


def draw_distributions(frame: pd.DataFrame, headings: Mapping[str, str], sets: Sequence[str]) -> bytes:
    """Draw a box and the single images for each set: a panel for each score.

    Args:
        frame: a row an image, with ``dataset`` and the scores.
        headings: the scores to draw, and what they are called.
        sets: names of the sets, in order.

    Returns:
        A PNG file.
    """
    figure = Figure(figsize=(9, 1.4 + 0.45 * len(sets)), layout="constrained")
    panels = figure.subplots(1, len(headings), squeeze=False, sharey=True)[0]
    generator = np.random.default_rng(0)
    for axes, (column, heading) in zip(panels, headings.items(), strict=True):
        for place, name in enumerate(sets):
            values = frame.loc[frame["dataset"] == name, column].dropna().to_numpy(float)
            if not len(values):
                continue
            axes.boxplot(
                values, positions=[place], orientation="horizontal", widths=0.6, showfliers=False,
                medianprops={"color": "black"},
            )  # fmt: skip
            shown = generator.permutation(values)[:MAX_POINTS]
            heights = place + generator.uniform(-0.2, 0.2, len(shown))
            axes.scatter(shown, heights, s=6, alpha=0.4, color="tab:blue", linewidths=0)
        axes.set_yticks(range(len(sets)), [_plain(name) for name in sets], fontsize=8)
        axes.set_ylim(len(sets) - 0.5, -0.5)
        axes.set_title(heading, fontsize=10)
        axes.set_xlim(-0.02, 1.02)
        axes.grid(alpha=0.3, axis="x")
        axes.tick_params(labelsize=8)
    return _png(figure)
