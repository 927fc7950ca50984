# SPDX-License-Identifier: Apache-2.0
"""Prints a Markdown table of the results that `benchmarks.polyp_results` writes.

python -m benchmarks.results_table docs/results/NAME/results.json
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["markdown"]

SCORES = {"mean_dice": "Dice at 0.5", "mean_dice_mean": "mDice"}


def _cell(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.3f}{spread}" if values else ""


def markdown(results: Mapping[str, Any]) -> str:
    """A row for each recipe: mean and standard deviation over its seeds, by test set and score.

    Args:
        results: content of `results.json`.

    Example:
        >>> sets = {"Kvasir": {"images": 100, "mean_dice": 0.8}}
        >>> print(markdown({"runs": {"baseline_seed0": {"recipe": "baseline", "seed": 0, "sets": sets}}}))
        | recipe | seeds | Kvasir (100), Dice at 0.5 |
        |---|---|---|
        | baseline | 1 | 0.800 |
    """
    runs = list(results["runs"].values())
    sets = {name: values for run in runs for name, values in run["sets"].items()}
    columns = [(name, score) for name, values in sets.items() for score in SCORES if score in values]
    head = [f"{name} ({sets[name]['images']}), {SCORES[score]}" for name, score in columns]
    lines = ["| " + " | ".join(["recipe", "seeds", *head]) + " |", "|---" * (len(head) + 2) + "|"]
    for recipe in dict.fromkeys(run["recipe"] for run in runs):
        own = [run["sets"] for run in runs if run["recipe"] == recipe]
        cells = [_cell([run[name][score] for run in own if score in run.get(name, {})]) for name, score in columns]
        lines.append("| " + " | ".join([recipe, str(len(own)), *cells]) + " |")
    return "\n".join(lines)


def main(path: Annotated[Path, typer.Argument(help="JSON file of results.")]) -> None:
    """Print the table."""
    typer.echo(markdown(json.loads(path.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    typer.run(main)
