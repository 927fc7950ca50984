# SPDX-License-Identifier: Apache-2.0
"""One training and its evaluations, as command lines of the polyp bundle that go on where they stopped."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.polyp_recipes import Recipe

__all__ = ["BUNDLE", "Commands", "OutOfTime", "PolypRun", "commands_of"]

BUNDLE = Path(__file__).parents[1] / "bundles" / "polyp_segmentation"
#: The evaluations of a run by the name of their folder, and the folder of data that each takes.
EVALUATIONS = {"eval": "DIR", "eval_crops": "CROPS"}
#: Settings that name places on this machine.
PLACES = ("checkpoint", "dataset_dir")


class OutOfTime(Exception):
    """The minutes are over; what was begun goes on with the next call."""


@dataclass(frozen=True)
class Commands:
    """Command lines with their places still to be filled in: DIR, CROPS, models, runs and folders of evaluations.

    Attributes:
        train: of the training.
        evaluate: of the evaluations.
    """

    train: list[str]
    evaluate: list[list[str]]


def _bundle_command(run_id: str, *configs: str | None, **overrides: object) -> list[str]:
    """The command line of a bundle's run; paths relative to the bundle, as a user would type it."""
    files = "[" + ",".join(f"'{config}'" for config in configs if config) + "]"
    words = ["python", "-m", "monai.bundle", "run", run_id, "--config_file", files]
    for key, value in overrides.items():
        words += [f"--{key}", str(value)]
    return words


def commands_of(
    recipe: Recipe, evaluation: Mapping[str, object], shared: Mapping[str, Any], paper: Mapping[str, object]
) -> Commands:
    """The command lines of a recipe.

    As released, all images are trained on but one, which the bundle needs for validation, and the last epoch counts.

    Args:
        recipe: what is trained.
        evaluation: settings of `evaluate.yaml`.
        shared: settings of the network and the machine.
        paper: settings of `train.yaml` that all recipes share; with `max_epochs`.
    """
    overlay = recipe.overlay and f"../../configs/recipes/{recipe.overlay}"
    peer = recipe.peer and f"../../configs/peers/{recipe.peer}"
    own = {"encoder_size": None} if recipe.peer else {}
    network = {key: value for key, value in {**shared, **own, **recipe.network}.items() if value is not None}
    epochs = round(int(str(paper["max_epochs"])) * recipe.epochs)
    unselected = {"max_epochs": epochs, "val_fraction": 0.0001, "val_interval": epochs + 1}
    train = _bundle_command(
        *("training", "configs/train.yaml", "../../configs/recipes/paper.yaml", overlay, peer),
        **{"dataset_dir": "DIR", "ckpt_dir": "models", "log_dir": "runs"},
        **{**paper, **unselected, **network, **recipe.training},
    )
    evaluate = [
        _bundle_command(
            *("evaluating", "configs/evaluate.yaml", "../../configs/benchmarks/polyp.yaml", peer),
            **{"dataset_dir": data, "ckpt_path": "models/model.pt", "output_dir": folder},
            **{"report": folder == "eval", **network, **evaluation},
        )
        for folder, data in EVALUATIONS.items()
    ]
    return Commands(train, evaluate)


@dataclass(frozen=True)
class PolypRun:
    """Training and evaluations in folders of their own.

    Attributes:
        commands: what is run.
        trained: folder of the training, which several runs may share.
        folder: folder of the evaluations.
        places: folders of data by their names in the command lines.
        until: time of the monotonic clock, in seconds, at which it is stopped; None for never.
    """

    commands: Commands
    trained: Path
    folder: Path
    places: Mapping[str, Path]
    until: float | None = None

    def _call(self, command: list[str]) -> None:
        left = None if self.until is None else self.until - time.monotonic()
        if left is not None and left <= 0:
            raise OutOfTime
        own = {name: self.trained / name for name in ("models", "runs", "models/model.pt")}
        own |= {name: self.folder / name for name in EVALUATIONS}
        words = [str({**self.places, **own}.get(word, word)) for word in command[1:]]
        try:
            subprocess.run([sys.executable, *words], cwd=BUNDLE, check=True, timeout=left)
        except subprocess.TimeoutExpired as error:
            raise OutOfTime from error

    def _done_before(self, name: str, folder: Path, told: list[str]) -> bool:
        """Whether these commands were done in the folder; notes them where it is new."""
        settings = folder / f"{name}.json"
        if not settings.exists():
            folder.mkdir(parents=True, exist_ok=True)
            settings.write_text(json.dumps({"commands": told, "done": False}, indent=2) + "\n", encoding="utf-8")
        content = json.loads(settings.read_text(encoding="utf-8"))
        if content["commands"] != told:
            raise SystemExit(f"{folder} holds a run with other settings; give another --work-dir.")
        return bool(content["done"])

    def _mark_done(self, name: str, folder: Path, told: list[str]) -> None:
        content = json.dumps({"commands": told, "done": True}, indent=2)
        (folder / f"{name}.json").write_text(content + "\n", encoding="utf-8")

    def _train(self) -> None:
        told = [" ".join(self.commands.train)]
        if self._done_before("training", self.trained, told):
            return
        begun = (self.trained / "models" / "last.pt").exists()
        self._call([*self.commands.train, "--resume", "True"] if begun else self.commands.train)
        self._mark_done("training", self.trained, told)

    def _evaluate(self) -> None:
        told = [" ".join(command) for command in self.commands.evaluate]
        if self._done_before("evaluation", self.folder, told):
            return
        for command in self.commands.evaluate:
            self._call(command)
        self._mark_done("evaluation", self.folder, told)

    def __call__(self) -> None:
        """Train and evaluate, or go on with what was begun.

        Raises:
            OutOfTime: When it was stopped.
            SystemExit: When a folder holds a run with other settings.
        """
        self._train()
        self._evaluate()

    def write(self, output: Path, **about: object) -> None:
        """Put what the evaluations found into folders that `sam2unet compare` takes.

        Args:
            output: gets `metrics.csv`, `reliability.csv` and `summary.json`; and `crops/`, with the same of the crops.
            about: put into `summary.json`, beside the command lines.
        """
        for name, command in zip(EVALUATIONS, self.commands.evaluate, strict=True):
            found, folder = self.folder / name, output if name == "eval" else output / "crops"
            folder.mkdir(parents=True, exist_ok=True)
            for table in ("metrics.csv", "reliability.csv"):
                frame = pd.read_csv(found / table)
                # Where the images lay is of no use elsewhere.
                if "image" in frame:
                    frame["image"] = frame["image"].map(lambda image: Path(image).name)
                frame.round(5).to_csv(folder / table, index=False)
            content = json.loads((found / "summary.json").read_text(encoding="utf-8"))
            settings = {key: value for key, value in content["settings"].items() if key not in PLACES}
            told = [" ".join(words) for words in (self.commands.train, command)]
            written = {**about, "commands": told, "settings": settings, "sets": content["sets"]}
            (folder / "summary.json").write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
