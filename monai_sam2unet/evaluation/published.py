# SPDX-License-Identifier: Apache-2.0
"""Our numbers beside published ones: ours, paper, difference."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.evaluation.columns import CLINICAL_COLUMNS, PAPERS_COLUMNS, is_lower_better

__all__ = ["PublishedRow", "PublishedTable"]

HEADINGS = {**CLINICAL_COLUMNS, **PAPERS_COLUMNS}
Summary = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class PublishedRow:
    """One published number, and ours.

    Args:
        dataset: the test set.
        column: the score, as it is called in ``metrics.csv``.
        ours: our mean over the set; None where no image counts, or the score was not computed.
        paper: the published number.
    """

    dataset: str
    column: str
    ours: float | None
    paper: float

    @property
    def difference(self) -> float | None:
        """Ours less the paper's; None without ours."""
        return None if self.ours is None else self.ours - self.paper

    @property
    def better(self) -> bool | None:
        """Whether ours is the better number: the smaller one of MAE, the larger one of Dice. None without ours.

        Example:
            >>> PublishedRow("CAMO", "mae", 0.040, 0.042).better, PublishedRow("CAMO", "s_measure", 0.880, 0.884).better
            (True, False)
        """
        if self.ours is None:
            return None
        return self.ours < self.paper if is_lower_better(self.column) else self.ours > self.paper


def _cell(number: float | None, sign: str = "") -> str:
    return "-" if number is None else f"{number:{sign}.3f}"


def _cells(row: PublishedRow) -> tuple[str, ...]:
    heading = HEADINGS[row.column] + (" (lower is better)" if is_lower_better(row.column) else "")
    return row.dataset, heading, _cell(row.ours), _cell(row.paper), _cell(row.difference, "+")


class PublishedTable:
    """Puts an evaluation's means beside published numbers.

    Args:
        published: of each test set the published numbers by score, ``{"CAMO": {"s_measure": 0.884, "mae": 0.042}}``.

    Raises:
        ConfigError: When it is no such mapping, a score is unknown, or a value is no number.

    Example:
        >>> table = PublishedTable({"CAMO": {"s_measure": 0.884}, "NC4K": {"s_measure": 0.901}})
        >>> [row] = table.rows({"CAMO": {"images": 250, "mean_s_measure": 0.881}})
        >>> row.dataset, row.column, row.ours, row.paper, round(row.difference, 3)
        ('CAMO', 's_measure', 0.881, 0.884, -0.003)
    """

    HEADINGS = ("test set", "score", "ours", "paper", "difference")

    def __init__(self, published: Mapping[str, Mapping[str, float]]) -> None:
        expected = "Expected is {SET: {SCORE: NUMBER, ...}, ...}."
        if not isinstance(published, Mapping) or not published:
            raise ConfigError(f"The published numbers are given as {published!r}. {expected}")
        for dataset, numbers in published.items():
            if not isinstance(numbers, Mapping) or not numbers:
                raise ConfigError(f"The published numbers of {dataset} are given as {numbers!r}. {expected}")
            for column, number in numbers.items():
                if column not in HEADINGS:
                    raise ConfigError(
                        f"{column!r} (published for {dataset}) is no score. The scores are: {', '.join(HEADINGS)}."
                    )
                if isinstance(number, bool) or not isinstance(number, (int, float)) or not math.isfinite(number):
                    raise ConfigError(f"{column} published for {dataset} is {number!r}; it must be a number.")
        self.published = {dataset: dict(numbers) for dataset, numbers in published.items()}

    def rows(self, summary: Summary) -> list[PublishedRow]:
        """The published numbers of the sets that were measured, in the order in which they are published.

        Args:
            summary: of each measured set, by name, ``mean_<score>``: what ``summary.json`` has under ``sets``.
        """
        return [
            PublishedRow(dataset, column, summary[dataset].get(f"mean_{column}"), float(paper))
            for dataset, numbers in self.published.items()
            if dataset in summary
            for column, paper in numbers.items()
        ]

    def not_measured(self, summary: Summary) -> list[str]:
        """The sets that have published numbers, but were not measured."""
        return [dataset for dataset in self.published if dataset not in summary]

    def _note(self, summary: Summary) -> str:
        absent = self.not_measured(summary)
        return f"Published, but not measured here: {', '.join(absent)}." if absent else ""

    def print(self, summary: Summary, console: Console | None = None) -> None:
        """Print the table.

        Args:
            summary: as of :meth:`rows`.
            console: where to; standard output if not given.
        """
        table = Table(title="Ours beside the published numbers", caption=self._note(summary) or None)
        for heading in self.HEADINGS:
            table.add_column(heading, justify="left" if heading in ("test set", "score") else "right")
        colours = {True: "green", False: "red", None: None}
        for row in self.rows(summary):
            table.add_row(*_cells(row), style=colours[row.better])
        (console or Console()).print(table)

    def markdown(self, summary: Summary) -> str:
        """The table in Markdown, with a line that names the sets that were not measured."""
        lines = [f"| {' | '.join(self.HEADINGS)} |", "|---|---|---|---|---|"]
        for row in self.rows(summary):
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in _cells(row)) + " |")
        note = self._note(summary)
        return "\n".join([*lines, *(["", note] if note else [])]) + "\n"

    def write(self, summary: Summary, output_dir: str | Path) -> None:
        """Write ``published.csv`` (not rounded; an empty cell where there is no number) and ``published.md``.

        Args:
            summary: as of :meth:`rows`.
            output_dir: folder to write to; it exists.
        """
        folder = Path(output_dir)
        with (folder / "published.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("dataset", "column", "ours", "paper", "difference"))
            writer.writerows((r.dataset, r.column, r.ours, r.paper, r.difference) for r in self.rows(summary))
        (folder / "published.md").write_text(self.markdown(summary), encoding="utf-8")
