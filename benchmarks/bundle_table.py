# SPDX-License-Identifier: Apache-2.0
"""Prints a Markdown table of what `benchmarks.bundle_results` measured, and draws the Dice of each case.

python -m benchmarks.bundle_table docs/results/NAME --plot docs/images/NAME.png
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import matplotlib
import pandas as pd
import typer

from benchmarks.bundle_results import DATA, STARTS

__all__ = ["draw", "markdown", "read_runs"]

matplotlib.use("Agg")
COLOURS = {"pretrained": "tab:blue", "random": "tab:orange"}


def read_runs(folder: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """What was measured, by bundle and by start: ``summary`` of all cases and ``cases``, a table.

    Args:
        folder: that `benchmarks.bundle_results` wrote to.
    """
    runs: dict[str, dict[str, dict[str, Any]]] = {}
    for bundle in DATA:
        for start in STARTS:
            file = folder / bundle / start / "summary.json"
            if file.exists():
                content = json.loads(file.read_text(encoding="utf-8"))
                (summary,) = content["sets"].values()
                found = {
                    "summary": summary,
                    "settings": content["shared"],
                    "cases": pd.read_csv(file.parent / "metrics.csv"),
                }
                runs.setdefault(bundle, {})[start] = found
    return runs


def _cell(run: dict[str, Any] | None) -> str:
    if run is None:
        return "not measured"
    low, high = run["summary"]["interval_dice"]
    return f"{run['summary']['mean_dice']:.3f} ({low:.3f} to {high:.3f})"


def markdown(runs: dict[str, dict[str, dict[str, Any]]]) -> str:
    """A table of the Dice of each bundle.

    Args:
        runs: as :func:`read_runs` gives them.
    """
    lines = [
        "| bundle | cases measured | epochs | Dice, pretrained encoder | Dice, random weights |",
        "|---|---|---|---|---|",
    ]
    for bundle, by_start in runs.items():
        first = next(iter(by_start.values()))
        cells = [_cell(by_start.get(start)) for start in STARTS]
        epochs = first["settings"]["max_epochs"]
        lines.append(f"| `{bundle}` | {first['summary']['images']} | {epochs} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(runs: dict[str, dict[str, dict[str, Any]]], path: Path) -> None:
    """Draw the Dice of each case, a row a bundle.

    Args:
        runs: as :func:`read_runs` gives them.
        path: of the picture.
    """
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 0.6 * len(runs) + 1), layout="constrained")
    for row, by_start in enumerate(reversed(runs.values())):
        for start, run in by_start.items():
            height = row + (0.13 if start == "pretrained" else -0.13)
            dice = run["cases"]["dice"]
            axes.plot(dice, [height] * len(dice), "o", color=COLOURS[start], alpha=0.35, markersize=4)
            axes.plot([dice.mean()], [height], "|", color=COLOURS[start], markersize=14, markeredgewidth=3)
    axes.set_yticks(range(len(runs)), [name.removesuffix("_segmentation") for name in reversed(runs)])
    axes.set(xlim=(-0.02, 1.02), xlabel="Dice of each case held out; a stroke: the mean")
    handles = [plt.Line2D([], [], color=COLOURS[start], marker="o", linestyle="", label=start) for start in STARTS]
    axes.legend(handles=handles, loc="lower left")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(
    results: Annotated[Path, typer.Argument(help="Folder that benchmarks.bundle_results wrote to.", exists=True)],
    plot: Annotated[Path | None, typer.Option(help="PNG file for the Dice of each case.")] = None,
) -> None:
    """Print the table."""
    runs = read_runs(results)
    print(markdown(runs))
    if plot is not None:
        draw(runs, plot)


if __name__ == "__main__":
    typer.run(main)
