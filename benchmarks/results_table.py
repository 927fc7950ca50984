# SPDX-License-Identifier: Apache-2.0
"""Prints a Markdown table of the JSON files that `benchmarks.polyp_results` writes.

python -m benchmarks.results_table docs/results/NAME.json
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Annotated

import typer


def main(path: Annotated[Path, typer.Argument(help="JSON file of results.")]) -> None:
    """Print mean Dice by test set and start: mean over the seeds, and each seed in brackets."""
    runs = json.loads(path.read_text(encoding="utf-8"))["runs"]
    starts = dict.fromkeys(name.split("_seed")[0] for name in runs)
    print("| test set | images | " + " | ".join(f"{start} encoder" for start in starts) + " |")
    print("|---|---|" + "---|" * len(starts))
    for name, values in next(iter(runs.values()))["sets"].items():
        cells = []
        for start in starts:
            dice = [run["sets"][name]["mean_dice"] for key, run in runs.items() if key.startswith(f"{start}_seed")]
            cells.append(f"{statistics.fmean(dice):.3f} ({', '.join(f'{d:.3f}' for d in dice)})")
        print(f"| {name} | {values['images']} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    typer.run(main)
