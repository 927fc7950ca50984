# SPDX-License-Identifier: Apache-2.0
"""Trains and evaluates the polyp bundle by several recipes and seeds, into a folder of results.

    python -m benchmarks.polyp_results --dataset-dir DIR --work-dir WORK --output docs/results/NAME

Each training and evaluation is a `monai.bundle run` of its own. A run that was stopped is resumed after its last epoch
by the same command, and finished runs are not done again, so the whole can be made in pieces (`--minutes`).
"""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.bundle_run import BundleRun, OtherRun, OutOfTime, files_sha256
from benchmarks.polyp_free_crops import write_crops
from benchmarks.polyp_recipes import RECIPES, SIZE_STEP, commands_of


@dataclass(frozen=True)
class _Runs:
    """The runs of one seed, each in folders below `work`."""

    work: Path
    places: Mapping[str, Path]
    shared: Mapping[str, Any]
    trained_by: Mapping[str, object]
    seed: int
    data_sha256: str
    until: float | None

    def _folder(self, name: str) -> Path:
        return self.work / "_".join([*re.findall(r"[a-z0-9]+", name.lower()), f"seed{self.seed}"])

    def of(self, name: str) -> BundleRun:
        """The training of a recipe, or of the one that it is trained as, and its evaluations."""
        trained_as = RECIPES[name].trained_as or name
        before = {f"{{{name}}}": self._folder(name) for name in RECIPES[trained_as].earlier}
        places = {**self.places, **before}
        paper = {**self.trained_by, "seed": self.seed}
        commands = commands_of(RECIPES[trained_as], RECIPES[name].evaluation, self.shared, paper)
        folders = self._folder(trained_as), self._folder(name)
        trainings = [run.commands.train for run in self.earlier(name)]
        trained = tuple(train for n, train in enumerate(trainings) if train not in trainings[:n])
        return BundleRun("polyp_segmentation", commands, *folders, places, self.data_sha256, self.until, trained)

    def earlier(self, name: str) -> list[BundleRun]:
        """The runs whose trainings a recipe goes on from, the first one first."""
        before = RECIPES[RECIPES[name].trained_as or name].earlier
        return [run for other in before for run in [*self.earlier(other), self.of(other)]]


def _crops(data: Path, work: Path) -> Path:
    """Folder of the squares without polyp: made once, and of runs that begin together the first one's to be whole."""
    crops = work / f"crops_{files_sha256(data / 'TestDataset')[:8]}"
    if crops.exists():
        return crops
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work, prefix=".crops.") as begun:
        made = Path(begun, crops.name)
        write_crops(data, made)
        try:
            made.rename(crops)
        except OSError:
            if not crops.is_dir():
                raise
    return crops


def main(
    dataset_dir: Annotated[Path, typer.Option(help="Folder with TrainDataset/ and TestDataset/.", exists=True)],
    output: Annotated[Path, typer.Option(help="Folder for a folder of results of each run.")],
    work_dir: Annotated[Path, typer.Option(help="Folder for checkpoints and logs; keep it to resume.")],
    recipes: Annotated[str, typer.Option(help="Names of recipes, with semicolons between.")] = ";".join(RECIPES),
    seeds: Annotated[str, typer.Option(help="Comma-separated seeds.")] = "0,1,2",
    weights: Annotated[str, typer.Option(help="Encoder weights: sam2, sam2.1 or a file.")] = "sam2",
    encoder_size: Annotated[str, typer.Option(help="tiny, small, base_plus or large.")] = "tiny",
    max_epochs: Annotated[int, typer.Option(help="Epochs.", min=1)] = 20,
    size: Annotated[int, typer.Option(help="Height and width in pixels.")] = 352,
    max_cases: Annotated[int | None, typer.Option(help="Images to train on; all if not given.", min=2)] = None,
    precision: Annotated[str, typer.Option(help="auto, bf16 or fp32.")] = "auto",
    num_workers: Annotated[int, typer.Option(help="Processes that load images.")] = 2,
    minutes: Annotated[float | None, typer.Option(help="Stop after so long; the same command goes on.")] = None,
) -> None:
    """Train and evaluate; write the results."""
    chosen = recipes.split(";")
    unknown = sorted(set(chosen) - RECIPES.keys())
    if unknown:
        raise typer.BadParameter(f"--recipes: {', '.join(unknown)} is not known; choose from {'; '.join(RECIPES)}.")
    if size % SIZE_STEP or size <= 0:
        raise typer.BadParameter(f"--size: a multiple of {SIZE_STEP} pixels, got {size}.")
    numbers = seeds.split(",")
    if not all(re.fullmatch(r" *\d+ *", number) for number in numbers):
        raise typer.BadParameter(f"--seeds: whole numbers with commas between, got {seeds!r}.")
    until = None if minutes is None else time.monotonic() + 60 * minutes
    data, work = dataset_dir.resolve(), work_dir.resolve()
    places = {"{DIR}": data}
    if Path(weights).is_file():
        places["{WEIGHTS}"], weights = Path(weights).resolve(), "{WEIGHTS}"
    data_sha256 = files_sha256(data)
    places["{CROPS}"] = _crops(data, work)
    shared: dict[str, Any] = {
        "encoder_size": encoder_size,
        "spatial_size": f"[{size},{size}]",
        "precision": precision,
        "num_workers": num_workers,
    }
    trained_by: dict[str, Any] = {"weights": weights, "max_epochs": max_epochs}
    if max_cases is not None:
        trained_by["max_cases"] = max_cases
    failed: list[str] = []
    refused: list[str] = []
    for seed in map(int, numbers):
        runs = _Runs(work, places, shared, trained_by, seed, data_sha256, until)
        for name in chosen:
            print(f"== {name}, seed {seed}", flush=True)
            run = runs.of(name)
            try:
                for earlier in runs.earlier(name):
                    earlier.train()
                run()
            except OutOfTime:
                told = ["The time is over. The same command goes on from here.", *failed, *refused]
                raise SystemExit("\n".join(told)) from None
            except subprocess.CalledProcessError as error:
                failed.append(f"{name}, seed {seed}: exit code {error.returncode}")
                continue
            except OtherRun as error:
                refused.append(f"{name}, seed {seed}: {error}")
                continue
            run.write(output / run.folder.name, recipe=name, seed=seed, shared={**shared, **trained_by})
    if failed or refused:
        again = ["These failed; the same command tries them again:", *failed] if failed else []
        raise SystemExit("\n".join([*again, *refused]))


if __name__ == "__main__":
    typer.run(main)
