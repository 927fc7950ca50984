# SPDX-License-Identifier: Apache-2.0
"""Trains and evaluates the polyp bundle by several recipes and seeds, into a folder of results.

    python -m benchmarks.polyp_results --dataset-dir DIR --work-dir WORK --output docs/results/NAME

Each training and evaluation is a `monai.bundle run` of its own. A run that was stopped is resumed after its last epoch
by the same command, and finished runs are not done again, so the whole can be made in pieces (`--minutes`).
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.polyp_recipes import RECIPES, Recipe

BUNDLE = Path(__file__).parents[1] / "bundles" / "polyp_segmentation"


class OutOfTime(Exception):
    """The minutes are over; what was begun goes on with the next call."""


def bundle_command(run_id: str, *configs: str, **overrides: object) -> list[str]:
    """The command line of a bundle's run; paths relative to the bundle, as a user would type it."""
    files = "[" + ",".join(f"'{config}'" for config in configs) + "]"
    words = ["python", "-m", "monai.bundle", "run", run_id, "--config_file", files]
    for key, value in overrides.items():
        words += [f"--{key}", str(value)]
    return words


def run(command: list[str], until: float | None) -> None:
    """Run a command inside the bundle.

    Args:
        command: its words.
        until: time of the monotonic clock, in seconds, at which it is stopped; None for never.

    Raises:
        OutOfTime: When it was stopped.
    """
    left = None if until is None else until - time.monotonic()
    if left is not None and left <= 0:
        raise OutOfTime
    try:
        subprocess.run([sys.executable, *command[1:]], cwd=BUNDLE, check=True, timeout=left)
    except subprocess.TimeoutExpired as error:
        raise OutOfTime from error


def commands_of(recipe: Recipe, shared: dict[str, Any], seed: int, max_epochs: int, weights: str) -> list[list[str]]:
    """The training's and the evaluation's command lines, their places still to be filled in.

    As released, all images are trained on but one, which the bundle needs for validation, and the last epoch counts.
    """
    epochs = round(max_epochs * recipe.epochs)
    paper = {"weights": weights, "max_epochs": epochs, "seed": seed}
    unselected = {"val_fraction": 0.0001, "val_interval": epochs + 1}
    train = {"dataset_dir": "DIR", "ckpt_dir": "models", "log_dir": "runs", **paper, **unselected, **shared}
    evaluate = {"dataset_dir": "DIR", "ckpt_path": "models/model.pt", "output_dir": "eval", "report": False, **shared}
    return [
        bundle_command(
            *("training", "configs/train.yaml", "../../configs/recipes/paper.yaml"),
            **{**train, **recipe.training, **recipe.network},
        ),
        bundle_command(
            *("evaluating", "configs/evaluate.yaml", "../../configs/benchmarks/polyp.yaml"),
            **{**evaluate, **recipe.network},
        ),
    ]


def one_run(folder: Path, commands: list[list[str]], data: Path, until: float | None) -> dict[str, Any]:
    """Train and evaluate once, or go on with what was begun.

    Args:
        folder: of this run alone.
        commands: what :func:`commands_of` gives.
        data: folder with TrainDataset/ and TestDataset/.
        until: when to stop, see :func:`run`.

    Returns:
        The commands, whether the training was resumed, and the results by test set.

    Raises:
        OutOfTime: When it was stopped.
        SystemExit: When the folder holds a run with other settings.
    """
    told = [" ".join(command) for command in commands]
    settings, done = folder / "commands.json", folder / "result.json"
    if settings.exists() and json.loads(settings.read_text(encoding="utf-8")) != told:
        raise SystemExit(f"{folder} holds a run with other settings; give another --work-dir.")
    if done.exists():
        result: dict[str, Any] = json.loads(done.read_text(encoding="utf-8"))
        return result
    folder.mkdir(parents=True, exist_ok=True)
    settings.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    places = {"DIR": data} | {name: folder / name for name in ("models", "runs", "models/model.pt", "eval")}
    train, evaluate = ([str(places.get(word, word)) for word in command] for command in commands)
    resumed = (folder / "models" / "last.pt").exists()
    run([*train, "--resume", "True"] if resumed else train, until)
    run(evaluate, until)
    sets = json.loads((folder / "eval" / "summary.json").read_text(encoding="utf-8"))["sets"]
    result = {"commands": told, "resumed": resumed, "sets": sets}
    done.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return result


def _machine() -> dict[str, str]:
    on_gpu = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if on_gpu else f"CPU, {torch.get_num_threads()} threads"
    return {"device": device, "python": platform.python_version(), "torch": torch.__version__}


def main(
    dataset_dir: Annotated[Path, typer.Option(help="Folder with TrainDataset/ and TestDataset/.", exists=True)],
    output: Annotated[Path, typer.Option(help="Folder for results.json, and a CSV file of each run's images.")],
    work_dir: Annotated[Path, typer.Option(help="Folder for checkpoints and logs; keep it to resume.")],
    recipes: Annotated[str, typer.Option(help="Comma-separated names of recipes.")] = ",".join(RECIPES),
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
    unknown = sorted(set(recipes.split(",")) - RECIPES.keys())
    if unknown:
        raise typer.BadParameter(f"--recipes: {', '.join(unknown)} is not known; choose from {', '.join(RECIPES)}.")
    until = None if minutes is None else time.monotonic() + 60 * minutes
    shared = {
        "encoder_size": encoder_size,
        "spatial_size": f"[{size},{size}]",
        "precision": precision,
        "num_workers": num_workers,
    }
    output.mkdir(parents=True, exist_ok=True)
    file = output / "results.json"
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"runs": {}}
    content["machine"] = _machine()
    for seed in map(int, seeds.split(",")):
        for name in recipes.split(","):
            recipe, key = RECIPES[name], f"{name.replace(' ', '_')}_seed{seed}"
            commands = commands_of(recipe, shared, seed, max_epochs, weights)
            if max_cases is not None:
                commands[0] += ["--max_cases", str(max_cases)]
            folder = work_dir.resolve() / key
            print(f"== {key}", flush=True)
            try:
                result = one_run(folder, commands, dataset_dir.resolve(), until)
            except OutOfTime:
                raise SystemExit("The time is over. The same command goes on from here.") from None
            content["runs"][key] = {"recipe": name, "seed": seed, **result}
            shutil.copy(folder / "eval" / "metrics.csv", output / f"{key}.csv")
            file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
