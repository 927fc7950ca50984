# SPDX-License-Identifier: Apache-2.0
"""Draws images per second of every form as bars, with what the device's arithmetic allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from monai_sam2unet.errors import DataError

__all__ = ["draw"]

# Told apart by colour-blind readers too (Okabe and Ito).
COLOURS = {"released": "#999999", "ours": "#0072B2", "peers": "#E69F00"}
NAMES = {"released": "released code", "ours": "this package", "peers": "others"}
Rows = Sequence[Mapping[str, Any]]
LINES = {"fp32": ":", "bf16": "--"}


def _chosen_batch(rows: Rows, wanted: int) -> str | None:
    """The largest batch that was measured up to the wanted one, else the smallest."""
    found = {int(b) for row in rows for b, entry in row["batches"].items() if "images_per_second" in entry}
    return str(max((b for b in found if b <= wanted), default=min(found))) if found else None


def _draw_size(axes: Axes, size: str, rows: Rows, rates: Mapping[str, float], batch: str) -> None:
    shown = [row for row in rows if "images_per_second" in row["batches"].get(batch, {})]
    shown.sort(key=lambda row: list(COLOURS).index(row["group"]))
    for place, row in enumerate(shown):
        speed = row["batches"][batch]["images_per_second"]
        median = speed["median"]
        whiskers = [[median - speed["lower_quartile"]], [speed["upper_quartile"] - median]]
        axes.barh(-place, median, height=0.72, color=COLOURS[row["group"]])
        axes.errorbar(median, -place, xerr=whiskers, color="black", capsize=2, linewidth=1)
        fast = row["batches"][batch]["times_as_fast"]["median"]
        text = f"{median:.3g} ({fast:.2g}x)"
        end = (speed["upper_quartile"], -place)
        axes.annotate(text, end, xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks([-i for i in range(len(shown))], [row["label"] for row in shown], parse_math=False)
    ours = next((row for row in shown if row["group"] == "ours"), None)
    top = max(row["batches"][batch]["images_per_second"]["upper_quartile"] for row in shown)
    for precision, style in LINES.items():
        if ours is None or precision not in rates:
            continue
        limit = rates[precision] / ours["gflop"]
        label = f"arithmetic of this package's network in {precision}"
        axes.axvline(limit, color="black", linestyle=style, linewidth=1, zorder=0, label=label)
        axes.text(limit, 1, f"{limit:.3g}", transform=axes.get_xaxis_transform(), ha="center", va="bottom", fontsize=8)
        top = max(top, limit)
    axes.set_xlim(0, 1.2 * top)
    axes.margins(y=0.02)
    axes.set_xlabel(f"images/s, batch {batch}")
    axes.set_title(f"encoder {size}", loc="left", fontsize=11, parse_math=False)
    axes.spines[["top", "right"]].set_visible(False)


def draw(path: str | Path, results: Mapping[str, Any], batch: int = 8) -> Figure:
    """Draw a panel for each size.

    Bars are medians, whiskers quartiles, in brackets how many times as fast as the first bar. The lines are images a
    second if nothing but the network's arithmetic took time, at the measured rate of matrix products.

    Args:
        path: PNG file to write.
        results: what `benchmarks.network` writes as JSON.
        batch: the batch size to show, or the largest one below it that was measured.

    Returns:
        The figure that was written.

    Raises:
        DataError: When nothing was measured.
    """
    rates = results["roofline"]["gflop_per_s"]
    panels = {}
    for size, part in results["sizes"].items():
        chosen = _chosen_batch(part["rows"], batch)
        if chosen is not None:
            panels[size] = (part["rows"], chosen)
    if not panels:
        raise DataError("No form ran: there is nothing to draw.")
    heights = [1.1 + 0.27 * len(rows) for rows, _ in panels.values()]
    figure = Figure(figsize=(8.5, sum(heights) + 0.6), layout="constrained")
    grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights).ravel()
    for axes, (size, (rows, chosen)) in zip(grid, panels.items(), strict=True):
        _draw_size(axes, size, rows, rates, chosen)
    groups = [g for g in COLOURS if any(row["group"] == g for rows, _ in panels.values() for row in rows)]
    handles = [Patch(color=COLOURS[group], label=NAMES[group]) for group in groups]
    lines = grid[0].get_legend_handles_labels()[0]
    figure.legend(handles=[*handles, *lines], loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    figure.savefig(path, dpi=130)
    return figure
