# SPDX-License-Identifier: Apache-2.0
"""Prints Markdown tables of the results that `benchmarks.polyp_results` writes.

python -m benchmarks.results_table docs/results/NAME
"""

from __future__ import annotations

import json
import statistics
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from numpy.typing import NDArray
from scipy import stats

from benchmarks.polyp_recipes import RECIPES
from monai_sam2unet.errors import DataError
from monai_sam2unet.evaluation.bootstrap import NUM_RESAMPLES, ROUNDING
from monai_sam2unet.evaluation.report_figures import draw_reliability
from monai_sam2unet.evaluation.statistics import holm_adjusted, paired_difference

__all__ = ["by_set", "gain_over", "markdown", "reliability"]

#: The score that the paper reports: Dice, mean over 256 thresholds.
SCORE = "dice_mean"
GAIN_HEADINGS = ("points gained", "95 % interval", "p (Holm)")


def _cell(values: Sequence[float], digits: int = 3) -> str:
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{spread}"


def _by_image(runs: Sequence[dict[str, Any]]) -> pd.Series:
    """The score of each test image, mean over the seeds."""
    return pd.concat([run["images"] for run in runs]).groupby(["dataset", "image"])[SCORE].mean()


def _mean_of_means(*samples: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
    means: NDArray[np.float64] = np.mean([values.mean(axis) for values in samples], axis=0)
    return means


def _interval(by_set: Sequence[NDArray[np.float64]], mean: float) -> tuple[float, float]:
    """The 95 % interval of the mean of the sets, with the exceptions of `evaluation.bootstrap`."""
    if min(map(len, by_set)) < 2:
        return float("nan"), float("nan")
    if all(np.ptp(values) < ROUNDING for values in by_set):
        return mean, mean
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        drawn = stats.bootstrap(
            by_set, _mean_of_means, n_resamples=NUM_RESAMPLES, method="BCa", random_state=np.random.default_rng(0)
        )
    low, high = drawn.confidence_interval
    if np.isnan([low, high]).any():
        low, high = np.quantile(drawn.bootstrap_distribution, [0.025, 0.975])
    return float(low), float(high)


def gain_over(
    baseline: Sequence[dict[str, Any]], own: Sequence[dict[str, Any]]
) -> tuple[float, tuple[float, float], float]:
    """What a recipe gains in mDice, on average over the test sets, with the same seeds.

    Args:
        baseline: runs to compare with.
        own: runs of the recipe.

    Returns:
        The gain; its 95 % interval, by drawing the images of each set anew (BCa); and p of Wilcoxon's signed-rank test
        over all images, both as `sam2unet compare` makes them. None of them knows how another training would turn out.

    Raises:
        DataError: When the two have no seed in common, or were measured on different images.
    """
    seeds = {run["seed"] for run in own} & {run["seed"] for run in baseline}
    if not seeds:
        raise DataError("There is no seed that both were trained with.")
    a, b = (_by_image([run for run in runs if run["seed"] in seeds]) for runs in (baseline, own))
    if not a.index.equals(b.index) or (b - a).isna().any():
        raise DataError("The two were not measured on the same images.")
    by_set = [group.to_numpy() for _, group in (b - a).groupby("dataset")]
    gain = float(_mean_of_means(*by_set))
    return gain, _interval(by_set, gain), paired_difference(a.to_numpy(), b.to_numpy()).p_value


def _gains(by_recipe: dict[str, list[dict[str, Any]]], baseline: str) -> dict[str, list[str]]:
    """The cells of each recipe's gain; the p-values are one family."""
    reference = by_recipe.get(baseline, [])
    seeds = {run["seed"] for run in reference}
    compared = [name for name, runs in by_recipe.items() if name != baseline and seeds & {r["seed"] for r in runs}]
    found = [gain_over(reference, by_recipe[name]) for name in compared]
    adjusted = holm_adjusted([p for _, _, p in found])
    cells = {}
    for name, (gain, (low, high), _), p in zip(compared, found, adjusted, strict=True):
        interval = f"{100 * low:+.1f} to {100 * high:+.1f}"
        own = {run["seed"] for run in by_recipe[name]}
        # The scores beside it are means over all seeds.
        common = sorted(own & seeds)
        paired = f" (seed{'s' * (len(common) > 1)} {', '.join(map(str, common))})" if own != seeds else ""
        cells[name] = [f"{100 * gain:+.1f}{paired}", interval, "<0.001" if p < 0.001 else f"{p:.3f}"]
    return cells


def markdown(runs: Sequence[dict[str, Any]], baseline: str = "baseline") -> str:
    """A row for each recipe: mean and standard deviation over its seeds, and what it gains over the baseline.

    Args:
        runs: of each run the content of its `summary.json`, and under `images` and `crops` the frames of its
            `metrics.csv` and `crops/metrics.csv`.
        baseline: name of the recipe that the others are held against.

    Returns:
        The table: mDice of each set and their mean; the gain in points of mDice, see :func:`gain_over`; and the share
        of the crops without polyp that is marked, on average.

    Raises:
        DataError: When the runs differ in more than recipe and seed, or were measured on different images.
    """
    if len({json.dumps([run["shared"], run["data_sha256"]], sort_keys=True) for run in runs}) > 1:
        raise DataError("The runs differ in more than recipe and seed (`shared`, `data_sha256` in their summary.json).")
    counts = {name: values["images"] for name, values in runs[0]["sets"].items()}
    if any({name: values["images"] for name, values in run["sets"].items()} != counts for run in runs):
        raise DataError("The runs were not measured on the same images.")
    sets = [f"{name} ({count})" for name, count in counts.items()]
    head = ["recipe", "seeds", *sets, "mean of the sets", *GAIN_HEADINGS, "false alarm area"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    recipes = dict.fromkeys(run["recipe"] for run in runs)
    by_recipe = {name: [run for run in runs if run["recipe"] == name] for name in recipes}
    gains = _gains(by_recipe, baseline)
    for recipe, own in by_recipe.items():
        scores = [[run["sets"][name][f"mean_{SCORE}"] for name in counts] for run in own]
        cells = [_cell(values) for values in zip(*scores, strict=True)]
        cells += [_cell([statistics.fmean(values) for values in scores]), *gains.get(recipe, ["", "", ""])]
        cells += [_cell([run["crops"]["false_alarm_area"].mean() for run in own])]
        lines.append("| " + " | ".join([recipe, str(len(own)), *cells]) + " |")
    return "\n".join(lines)


def _sized(own: Sequence[dict[str, Any]], name: str, size: str) -> str:
    groups = [group for sets in own if (group := sets[name].get("dice_by_size", {}).get(size))]
    return f"{_cell([group['mean_dice'] for group in groups])} ({groups[0]['images']})" if groups else ""


def by_set(runs: Sequence[dict[str, Any]]) -> str:
    """A row for each recipe and test set: what the masks at probability 0.5 are worth, and the probabilities.

    Args:
        runs: as in :func:`markdown`.

    Returns:
        The table, means over the seeds: Dice and IoU at 0.5, Dice of small, medium and large polyps with the number
        of their images, mIoU, and the expected calibration error.
    """
    sizes = {"small": "small polyps", "medium": "medium", "large": "large"}
    head = ["recipe", "set", "Dice at 0.5", "IoU at 0.5", *sizes.values(), "mIoU", "calibration error"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for recipe in dict.fromkeys(run["recipe"] for run in runs):
        own = [run["sets"] for run in runs if run["recipe"] == recipe]
        for name in own[0]:
            sized = [_sized(own, name, size) for size in sizes]
            dice, iou, mean_iou, error = (
                _cell([sets[name][f"mean_{column}"] for sets in own])
                for column in ("dice", "iou", "iou_mean", "calibration_error")
            )
            cells = [dice, iou, *sized, mean_iou, error]
            lines.append("| " + " | ".join([recipe, name, *cells]) + " |")
    return "\n".join(lines)


def reliability(runs: Sequence[dict[str, Any]]) -> dict[str, pd.DataFrame]:
    """The reliability curve of each recipe, over the pixels of all its test sets and seeds.

    Args:
        runs: of each run `recipe`, and under `reliability` the frame of its `reliability.csv`.

    Returns:
        Of each recipe a row a bin, as the evaluation has it for a set.
    """
    curves = {}
    for recipe in dict.fromkeys(run["recipe"] for run in runs):
        bins = pd.concat([run["reliability"] for run in runs if run["recipe"] == recipe])
        weighted = bins.assign(**{name: bins[name] * bins["pixels"] for name in ("probability", "frequency")})
        summed = weighted.groupby(["low", "high"], as_index=False)[["pixels", "probability", "frequency"]].sum()
        means = {name: summed[name] / summed["pixels"] for name in ("probability", "frequency")}
        curves[recipe] = summed.assign(**means)
    return curves


def main(
    folder: Annotated[Path, typer.Argument(help="Folder with a folder of results of each run.")],
    plot: Annotated[Path | None, typer.Option(help="PNG file for the reliability curves.")] = None,
) -> None:
    """Print the tables."""
    runs = []
    for file in sorted(folder.glob("*/summary.json")):
        content = json.loads(file.read_text(encoding="utf-8"))
        tables = {"images": "metrics.csv", "crops": "crops/metrics.csv", "reliability": "reliability.csv"}
        runs.append({**content, **{key: pd.read_csv(file.parent / name) for key, name in tables.items()}})
    unknown = {run["recipe"] for run in runs} - RECIPES.keys()
    if not runs or unknown:
        raise typer.BadParameter(f"{folder} holds {f'unknown recipes: {unknown}' if unknown else 'no results'}.")
    order = list(RECIPES)
    runs.sort(key=lambda run: (order.index(run["recipe"]), run["seed"]))
    typer.echo(f"{markdown(runs)}\n\n{by_set(runs)}")
    if plot is not None:
        plot.write_bytes(draw_reliability(reliability(runs)))


if __name__ == "__main__":
    typer.run(main)
