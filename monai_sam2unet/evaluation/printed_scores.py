# SPDX-License-Identifier: Apache-2.0
"""Means and intervals of both readings as tables: rows for the terminal and for the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from monai_sam2unet.evaluation.columns import HEADINGS, is_lower_better
from monai_sam2unet.evaluation.scored import Scored

__all__ = ["cell_of", "heading_of", "print_scores", "readings"]

PAPERS_TITLE = "Papers' protocol: maps min-max normalised per image, 8 bit, mean over 256 thresholds"
CELL_WIDTH = 17
HEADING_WIDTH = 28


def heading_of(column: str, table: Scored) -> str:
    """What a score is called in tables, with its unit, and an arrow to where it is better."""
    heading = HEADINGS.get(column, column.replace("_", " ", 1))
    if column.startswith("hd95"):
        heading += f" [{table.unit}]"
    if column == "surface_dice":
        heading += f" at {table.tolerance:g} {table.unit}"
    return f"{heading} {'↓' if is_lower_better(column) else '↑'}"


def cell_of(summary: Mapping[str, Any], column: str) -> tuple[str, str]:
    """Mean, and its interval with the number of images that count where that is not all; empty where not defined."""
    mean, interval = summary[f"mean_{column}"], summary[f"interval_{column}"]
    if mean is None:
        return "-", ""
    digits = (2, 2) if column.startswith("hd95") else (4, 3)
    notes = [] if interval is None else [f"{interval[0]:.{digits[1]}f}-{interval[1]:.{digits[1]}f}"]
    if f"images_{column}" in summary:
        notes.append(f"n={summary[f'images_{column}']}")
    return f"{mean:.{digits[0]}f}", " ".join(notes)


def readings(table: Scored) -> list[tuple[str, list[str]]]:
    """The readings that a table has: a title that names the protocol, and the scores for which some image counts."""
    summaries = table.summary().values()
    return [
        (title, [c for c in columns if any(summary[f"mean_{c}"] is not None for summary in summaries)])
        for title, columns in ((table.clinical_title, table.clinical_columns), (PAPERS_TITLE, table.papers_columns))
        if columns
    ]


def print_scores(table: Scored, console: Console) -> None:
    """Print a table for each reading, with as many sets side by side as there is room for."""
    summary = table.summary()
    names = list(summary)
    # What is left out would be cut off; in narrow cells the interval stands below its mean.
    step = max(1, (console.width - HEADING_WIDTH) // CELL_WIDTH)
    for title, columns in readings(table):
        for first in range(0, len(names), step):
            shown = names[first : first + step]
            made = Table(title=f"{title}\nmean, and its 95 % interval by bootstrap over the images")
            made.add_column("", no_wrap=True)
            for name in shown:
                made.add_column(f"{name}\n{summary[name]['images']} images", justify="right")
            for column in columns:
                cells = (" ".join(filter(None, cell_of(summary[name], column))) for name in shown)
                made.add_row(heading_of(column, table), *cells)
            console.print(made, markup=False)
