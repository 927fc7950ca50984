# SPDX-License-Identifier: Apache-2.0
"""A picture of the differences between two evaluations: every case, the mean, and its interval."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["draw_differences"]

# Told apart by colour-blind readers too (Okabe and Ito).
BETTER, WORSE, EQUAL = "#0072B2", "#D55E00", "#999999"


def _draw_set(axes: Axes, row: pd.Series, differences: np.ndarray, height: float) -> None:
    """One strip: a dot a case, spread so that equal values can be seen, with mean and interval below."""
    values = np.sort(differences[~np.isnan(differences)])
    gain = -values if row["lower_is_better"] else values
    colours = np.where(gain > 0, BETTER, np.where(gain < 0, WORSE, EQUAL))
    spread = np.modf(np.arange(len(values)) * 0.618034)[0] * 0.36  # even, without chance
    axes.scatter(values, height + spread - 0.02, s=9, c=colours, alpha=0.55, linewidths=0)
    ends = [row["low"], row["high"]]
    if not np.isnan(ends).any():
        axes.plot(ends, [height - 0.2] * 2, color="black", linewidth=2.2, solid_capstyle="butt")
    axes.plot(row["difference"], height - 0.2, marker="D", color="black", markersize=5)


def _draw_score(axes: Axes, rows: pd.DataFrame, differences: np.ndarray, datasets: np.ndarray) -> None:
    labels = []
    for place, (_, row) in enumerate(rows.iterrows()):
        chosen = datasets == row["dataset"]
        # The row over all sets has the name of none.
        _draw_set(axes, row, differences[chosen] if chosen.any() else differences, -place)
        holm = "-" if np.isnan(row["p_holm"]) else f"{row['p_holm']:.2g}"
        labels.append(f"{row['dataset']}\nn={row['n']}, p={holm}")
    axes.axvline(0, color="black", linewidth=0.8, linestyle=":")
    axes.set_yticks(-np.arange(len(rows)), labels, fontsize=7, parse_math=False)
    axes.set_ylim(-len(rows) + 0.45, 0.5)
    # An interval around 0, so that the eye sees on which side the cases lie.
    reach = max(float(np.nanmax(np.abs(differences), initial=0)) * 1.08, 1e-6)
    axes.set_xlim(-reach, reach)
    axes.tick_params(axis="x", labelsize=7)
    lower = bool(rows["lower_is_better"].iloc[0])
    axes.set_title(
        f"{rows['metric'].iloc[0]} ({'lower' if lower else 'higher'} is better)", fontsize=9, parse_math=False
    )


def draw_differences(
    path: str | Path,
    table: pd.DataFrame,
    differences: pd.DataFrame,
    datasets: pd.Series,
    names: tuple[str, str],
    confidence: float,
) -> None:
    """Draw a panel for each score, with a strip for each set: a dot a case, the mean and its interval.

    Args:
        path: PNG file to write.
        table: the rows of a :class:`monai_sam2unet.evaluation.comparison.Comparison`; only what they have is drawn.
        differences: B - A, a row a case, a column a score.
        datasets: set of each case.
        names: what A and B are called.
        confidence: of the intervals, in (0, 1).
    """
    metrics = list(dict.fromkeys(table["metric"]))
    sets = len(dict.fromkeys(table["dataset"]))
    across = min(len(metrics), 2 if len(metrics) < 5 else 4)
    down = -(-len(metrics) // across)
    figure = Figure(figsize=(1 + 4.4 * across, 1.1 + down * (0.7 + 0.75 * sets)), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False).ravel()
    for axes, metric in zip(grid, metrics, strict=False):
        rows = table[table["metric"] == metric]
        _draw_score(axes, rows, differences[metric].to_numpy(), datasets.to_numpy())
    for axes in grid[len(metrics) :]:
        axes.set_visible(False)
    figure.suptitle(
        f"Difference of each image: {names[1]} - {names[0]}. Blue: {names[1]} is better, orange: worse, gray: equal.\n"
        f"Diamond and bar: mean and its {100 * confidence:g} % interval; p: Wilcoxon, adjusted after Holm.",
        fontsize=9,
        parse_math=False,
    )
    figure.savefig(path, dpi=130)
