# SPDX-License-Identifier: Apache-2.0
"""``sam2unet compare``: whether one evaluation is better than another on the same images."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from monai_sam2unet.cli.output_folder import make_output_folder
from monai_sam2unet.errors import ConfigError, listing

if TYPE_CHECKING:
    from monai_sam2unet.evaluation.comparison import Comparison

__all__ = ["compare"]


def _words(text: str | None) -> list[str]:
    return [word.strip() for word in (text or "").split(",") if word.strip()]


def _number(value: float, digits: int = 4, sign: bool = False) -> str:
    return "-" if value != value else f"{value:{'+' if sign else ''}.{digits}f}"


def _p(value: float) -> str:
    return "-" if value != value else "<0.001" if value < 0.001 else f"{value:.3f}"


def _print_table(console: Console, result: Comparison) -> None:
    name_a, name_b = result.names
    percent = f"{100 * result.settings['confidence']:g} %"
    table = Table(title=f"{name_b} against {name_a}, image by image (↓: lower is better)")
    headings = ("set", "score", "n", name_a, name_b, "difference", f"{percent} interval", "p", "p (Holm)")
    for number, heading in enumerate((*headings, "better/worse/equal")):
        table.add_column(heading, justify="left" if number < 2 else "right", no_wrap=number < 2)
    records: list[dict[Hashable, Any]] = result.table.to_dict("records")
    for row, following in zip(records, [*records[1:], None], strict=True):
        table.add_row(
            row["dataset"],
            row["metric"] + (" ↓" if row["lower_is_better"] else ""),
            str(row["n"]),
            _number(row["mean_a"]),
            _number(row["mean_b"]),
            _number(row["difference"], sign=True),
            f"{_number(row['low'], sign=True)} to {_number(row['high'], sign=True)}",
            _p(row["p_value"]),
            _p(row["p_holm"]),
            f"{row['better']}/{row['worse']}/{row['equal']}",
            end_section=following is not None and following["dataset"] != row["dataset"],
        )
    # A table of numbers cut off at the screen's width would be of no use; terminals fold long lines.
    console.width = max(console.width, console.measure(table, options=console.options.update(max_width=1000)).maximum)
    console.print(table)
    console.print(
        f"p: Wilcoxon's signed-rank test; p (Holm): adjusted for the {result.settings['tests_in_family']} tests of "
        "this table. Interval: bootstrap over images, of the mean difference.",
        soft_wrap=True,
    )


def _print_left_out(console: Console, result: Comparison) -> None:
    for note in result.notes:
        console.print(note, highlight=False, soft_wrap=True)
    for name, unpaired, columns in zip(
        result.names,
        (result.pairs.unpaired_a, result.pairs.unpaired_b),
        (result.pairs.only_a, result.pairs.only_b),
        strict=True,
    ):
        if columns:
            console.print(f"Not compared, for only {name} has it as numbers: {', '.join(columns)}", soft_wrap=True)
        if unpaired:
            console.print(f"Only in {name}, so left out: {len(unpaired)} images:", soft_wrap=True)
            console.print(listing(unpaired), highlight=False, soft_wrap=True)
    partly = result.table[result.table["in_one_only"] > 0]
    if len(partly):
        lines = [f"{row.dataset}, {row.metric}: {row.in_one_only}" for row in partly.itertuples()]
        console.print("Images that have a score in one of the two only, so left out of its row:")
        console.print(listing(lines), highlight=False, soft_wrap=True)


def compare(
    a: Annotated[Path, typer.Argument(help="The one: a metrics.csv, or the folder that holds it.")],
    b: Annotated[Path, typer.Argument(help="The other; differences are B - A.")],
    metric: Annotated[
        str | None, typer.Option(help="Scores to compare, with commas between: dice,iou. All, if not given.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Folder for comparison.csv, .json and .png.")] = None,
    allow_unpaired: Annotated[
        bool, typer.Option("--allow-unpaired", help="Leave out images that only one of the two has.")
    ] = False,
    allow_different_settings: Annotated[
        bool, typer.Option("--allow-different-settings", help="Compare also what was measured in different ways.")
    ] = False,
    lower_is_better: Annotated[
        str | None, typer.Option(help="Scores of your own that are best when small, with commas between.")
    ] = None,
    confidence: Annotated[float, typer.Option(help="Of the intervals, between 0 and 1.")] = 0.95,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap's draws.")] = 0,
    names: Annotated[tuple[str, str], typer.Option(help="What A and B are called, two words.")] = ("A", "B"),
) -> None:
    """Compare two evaluations of the same images: differences, their intervals, and tests.

    Images pair by set and file name, also where the evaluations ran on two machines. docs/comparing.md tells what the
    columns mean.
    """
    # `--help` should not wait for pandas and SciPy.
    from monai_sam2unet.evaluation.comparison import compare_scores, write_comparison

    if names[0] == names[1]:
        raise ConfigError(f"A and B need two different names, got {names[0]} twice.")
    if output is not None:
        make_output_folder(output)
    result = compare_scores(
        a,
        b,
        _words(metric) or None,
        names=names,
        allow_unpaired=allow_unpaired,
        allow_different_settings=allow_different_settings,
        lower_is_better=_words(lower_is_better),
        confidence=confidence,
        seed=seed,
    )
    # Names of sets and evaluations may hold what rich would take for its markup.
    console = Console(markup=False, emoji=False)
    _print_table(console, result)
    _print_left_out(console, result)
    if output is not None:
        for file in write_comparison(result, output):
            console.print(f"Written: {file}", soft_wrap=True)
