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
from rich.text import Text

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.evaluation.columns import HEADINGS, is_lower_better

__all__ = ["PublishedRow", "PublishedTable"]

Summary = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class PublishedRow:
    """One published number, and ours.

    Args:
        dataset: the test set.
        column: the score, as it is called in ``metrics.csv``.
        ours: our mean over the set; None where no image counts, or the score was not computed.
        paper: the published number.
        n: number of images that ours is the mean of.
    """

    dataset: str
    column: str
    ours: float | None
    paper: float
    n: int

    @property
    def difference(self) -> float | None:
        """Ours less the paper's; None without ours."""
        return None if self.ours is None else self.ours - self.paper

    @property
    def better(self) -> bool | None:
        """Whether ours is the better number: the smaller one of MAE, the larger one of Dice. None without ours.

        Example:
            >>> [PublishedRow("CAMO", "mae", ours, paper=0.042, n=250).better for ours in (0.040, 0.044)]
            [True, False]
        """
        if self.ours is None:
            return None
        return self.ours < self.paper if is_lower_better(self.column) else self.ours > self.paper


def _cell(number: float | None, sign: str = "") -> str:
    return "-" if number is None else f"{number:{sign}.3f}"


def _cells(row: PublishedRow) -> tuple[str, ...]:
    heading = HEADINGS[row.column] + (" (lower is better)" if is_lower_better(row.column) else "")
    return row.dataset, heading, str(row.n), _cell(row.ours), _cell(row.paper), _cell(row.difference, "+")


class PublishedTable:
    """Puts an evaluation's means beside published numbers.

    Args:
        published: of each test set the published numbers by score, ``{"CAMO": {"s_measure": 0.884, "mae": 0.042}}``.
            Beside the sets ``"note"`` may hold a text: where the numbers are from, and how far they were checked.

    Attributes:
        note: that text; empty without.

    Raises:
        ConfigError: When it is no such mapping, a score is unknown, a value is no number, or the note no text.

    Example:
        >>> table = PublishedTable({"CAMO": {"s_measure": 0.884}, "NC4K": {"s_measure": 0.901}})
        >>> [row] = table.rows({"CAMO": {"images": 250, "mean_s_measure": 0.881}})
        >>> row.dataset, row.column, row.n, row.ours, row.paper, round(row.difference, 3)
        ('CAMO', 's_measure', 250, 0.881, 0.884, -0.003)
    """

    HEADINGS = ("test set", "score", "n", "ours", "paper", "difference")

    def __init__(self, published: Mapping[str, Mapping[str, float] | str]) -> None:
        expected = "Expected is {SET: {SCORE: NUMBER, ...}, ...}, beside the sets a `note` if you like."
        if not isinstance(published, Mapping) or not published:
            raise ConfigError(f"The published numbers are given as {published!r}. {expected}")
        note = published.get("note", "")
        if not isinstance(note, str):
            raise ConfigError(f"The note on the published numbers is {note!r}; it must be a text, and no set.")
        self.note = note.strip()
        self.published: dict[str, dict[str, float]] = {}
        for dataset, numbers in published.items():
            if dataset == "note":
                continue
            if not isinstance(numbers, Mapping) or not numbers:
                raise ConfigError(f"The published numbers of {dataset} are given as {numbers!r}. {expected}")
            for column, number in numbers.items():
                if column not in HEADINGS:
                    raise ConfigError(
                        f"{column!r} (published for {dataset}) is no score. The scores are: {', '.join(HEADINGS)}."
                    )
                if isinstance(number, bool) or not isinstance(number, (int, float)) or not math.isfinite(number):
                    raise ConfigError(f"{column} published for {dataset} is {number!r}; it must be a number.")
            self.published[dataset] = dict(numbers)
        if not self.published:
            raise ConfigError(f"There is a note on published numbers, but there are none. {expected}")

    def rows(self, summary: Summary) -> list[PublishedRow]:
        """The published numbers of the sets that were measured, in the order in which they are published.

        Args:
            summary: of each measured set, by name, ``images``, ``mean_<score>`` and, where not all images count,
                ``images_<score>``: what ``summary.json`` has under ``sets``.
        """
        rows = []
        for dataset, numbers in self.published.items():
            if dataset not in summary:
                continue
            values = summary[dataset]
            for column, paper in numbers.items():
                ours = values.get(f"mean_{column}")
                n = 0 if ours is None else values.get(f"images_{column}", values["images"])
                rows.append(PublishedRow(dataset, column, ours, float(paper), n))
        return rows

    def not_measured(self, summary: Summary) -> list[str]:
        """The sets that have published numbers, but were not measured."""
        return [dataset for dataset in self.published if dataset not in summary]

    def _below(self, summary: Summary) -> list[str]:
        absent = self.not_measured(summary)
        lines = [self.note, f"Published, but not measured here: {', '.join(absent)}." if absent else ""]
        return [line for line in lines if line]

    def print(self, summary: Summary, console: Console | None = None) -> None:
        """Print the table, and below it the note and the sets that were not measured.

        Args:
            summary: as of :meth:`rows`.
            console: where to; standard output if not given.
        """
        console, rows = console or Console(), self.rows(summary)
        if not rows:
            console.print("\n".join(["None of the sets measured here has published numbers.", *self._below(summary)]))
            return
        table = Table(title="Ours beside the published numbers", caption=Text("\n".join(self._below(summary))))
        for heading in self.HEADINGS:
            table.add_column(heading, justify="left" if heading in ("test set", "score") else "right")
        colours = {True: "green", False: "red", None: None}
        for row in rows:
            table.add_row(*map(Text, _cells(row)), style=colours[row.better])
        console.print(table)

    def markdown(self, summary: Summary) -> str:
        """The table in Markdown, with the note, and a line that names the sets that were not measured."""
        lines = [f"| {' | '.join(self.HEADINGS)} |", "|" + "---|" * len(self.HEADINGS)]
        for row in self.rows(summary):
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in _cells(row)) + " |")
        return "\n\n".join(["\n".join(lines), *self._below(summary)]) + "\n"

    def write(self, summary: Summary, output_dir: str | Path) -> None:
        """Write ``published.csv`` (not rounded; an empty cell where there is no number) and ``published.md``.

        Args:
            summary: as of :meth:`rows`.
            output_dir: folder to write to; it exists.
        """
        folder = Path(output_dir)
        with (folder / "published.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("dataset", "column", "n", "ours", "paper", "difference"))
            writer.writerows((r.dataset, r.column, r.n, r.ours, r.paper, r.difference) for r in self.rows(summary))
        (folder / "published.md").write_text(self.markdown(summary), encoding="utf-8")
