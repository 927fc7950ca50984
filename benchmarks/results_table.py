# SPDX-License-Identifier: Apache-2.0
"""Prints a Markdown table of the results that `benchmarks.polyp_results` writes.

python -m benchmarks.results_table docs/results/NAME
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from benchmarks.polyp_recipes import RECIPES
from monai_sam2unet.evaluation.statistics import paired_difference

__all__ = ["markdown"]

#: The score that the paper reports: Dice, mean over 256 thresholds.
SCORE = "dice_mean"
HEADINGS = ("recipe", "seeds", "mean of the sets", "points gained", "95 % interval", "p", "false alarms")


def _cell(values: Sequence[float], digits: int = 3) -> str:
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{spread}" if values else ""


def _by_image(runs: Sequence[dict[str, Any]]) -> pd.Series:
    """The score of each test image, mean over the seeds."""
    return pd.concat([run["images"] for run in runs]).groupby(["dataset", "image"])[SCORE].mean()


def _against(own: Sequence[dict[str, Any]], baseline: Sequence[dict[str, Any]]) -> list[str]:
    """Gain over the same seeds of the baseline: in points of Dice, its interval, and p of Wilcoxon's test."""
    seeds = {run["seed"] for run in own} & {run["seed"] for run in baseline}
    if not seeds or own is baseline:
        return ["", "", ""]
    b, a = (_by_image([run for run in runs if run["seed"] in seeds]) for runs in (own, baseline))
    found = paired_difference(a.to_numpy(), b.reindex(a.index).to_numpy())
    # The goal is the mean over the sets; the test and its interval are of all images alike.
    gain = (b - a).groupby("dataset").mean().mean()
    interval = f"{100 * found.low:+.1f} to {100 * found.high:+.1f}"
    return [f"{100 * gain:+.1f}", interval, "<0.001" if found.p_value < 0.001 else f"{found.p_value:.3f}"]


def markdown(runs: Sequence[dict[str, Any]], baseline: str = "baseline") -> str:
    """A row for each recipe: mean and standard deviation over its seeds, and what it gains over the baseline.

    Args:
        runs: of each run the content of its `summary.json`, and under `images` and `crops` the frames of its
            `metrics.csv` and `crops/metrics.csv`.
        baseline: name of the recipe that the others are held against.

    Returns:
        The table: mDice of each set and their mean; the gain in points of mDice, its interval and p over the images;
        and how many of the crops without polyp have a false alarm.
    """
    sets = list(dict.fromkeys(name for run in runs for name in run["sets"]))
    counts = {name: run["sets"][name]["images"] for run in runs for name in sets if name in run["sets"]}
    head = [*HEADINGS[:2], *(f"{name} ({counts[name]})" for name in sets), *HEADINGS[2:]]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    recipes = dict.fromkeys(run["recipe"] for run in runs)
    by_recipe = {name: [run for run in runs if run["recipe"] == name] for name in recipes}
    for recipe, own in by_recipe.items():
        scores = [[run["sets"][name][f"mean_{SCORE}"] for name in sets] for run in own]
        alarms = [run["crops"]["false_alarm"].mean() for run in own]
        cells = [_cell(values) for values in zip(*scores, strict=True)]
        cells += [_cell([statistics.fmean(values) for values in scores])]
        cells += _against(own, by_recipe.get(baseline, []))
        cells += [_cell(alarms, 2)]
        lines.append("| " + " | ".join([recipe, str(len(own)), *cells]) + " |")
    return "\n".join(lines)


def main(folder: Annotated[Path, typer.Argument(help="Folder with a folder of results of each run.")]) -> None:
    """Print the table."""
    runs = []
    for file in sorted(folder.glob("*/summary.json")):
        content = json.loads(file.read_text(encoding="utf-8"))
        images, crops = (pd.read_csv(file.parent / name) for name in ("metrics.csv", "crops/metrics.csv"))
        runs.append({**content, "images": images, "crops": crops})
    if not runs:
        raise typer.BadParameter(f"{folder} holds no results.")
    order = list(RECIPES)
    typer.echo(markdown(sorted(runs, key=lambda run: (order.index(run["recipe"]), run["seed"]))))


if __name__ == "__main__":
    typer.run(main)
