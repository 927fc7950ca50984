# SPDX-License-Identifier: Apache-2.0
"""One training and its evaluations, as command lines of a bundle that go on where they stopped."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
import yaml

from benchmarks.device_name import device_name
from monai_sam2unet.data.training_cases import case_sha256

__all__ = ["BUNDLES", "BundleRun", "Commands", "OtherRun", "OutOfTime", "bundle_command", "files_sha256"]

BUNDLES = Path(__file__).parents[1] / "bundles"
#: Settings that name places on this machine.
PLACES = ("checkpoint", "dataset_dir")


def machine() -> dict[str, str]:
    """What this machine computes with."""
    device = device_name(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    if not torch.cuda.is_available():
        device += f", {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"
    return {"device": device, "python": platform.python_version(), "torch": torch.__version__}


def files_sha256(*places: Path) -> str:
    """Hash the names and sizes of files, by which data are the same on another machine; contents are not read.

    Args:
        places: files, and folders with all that is below them.
    """
    digest = hashlib.sha256()
    for place in places:
        files = [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file())
        for path in files:
            digest.update(
                f"{path.relative_to(place.parent if place.is_file() else place)} {path.stat().st_size}\n".encode()
            )
    return digest.hexdigest()


def _inputs_sha256(command: Sequence[str], folder: Path) -> str:
    """Hash the files that a command line names: settings without their comments, all others byte by byte.

    Args:
        command: words; several files may stand in one, as a list.
        folder: where relative paths begin.
    """
    digest = hashlib.sha256()
    listed = [file for word in command for file in (yaml.safe_load(word) if word.startswith("[") else [word])]
    for path in [folder / str(file) for file in listed]:
        if path.suffix == ".yaml" and path.is_file():
            settings = yaml.safe_load(path.read_text(encoding="utf-8"))
            digest.update(f"{json.dumps(settings, sort_keys=True, default=str)}\n".encode())
        elif path.is_file():
            digest.update(f"{case_sha256(path)}\n".encode())
    return digest.hexdigest()


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    part.replace(path)


class OutOfTime(Exception):
    """The minutes are over; what was begun goes on with the next call."""


class OtherRun(SystemExit):
    """A folder of work holds another run than the one that is wanted."""


@dataclass(frozen=True)
class Commands:
    """Command lines with their places still to be filled in: {TRAINED}, {FOLDER}, and others that the run is given.

    Attributes:
        train: of the training, or what makes `{TRAINED}/models/model.pt` without one.
        evaluate: of the evaluations, by the name of the folder that each writes to, ``eval`` first.
    """

    train: list[str]
    evaluate: dict[str, list[str]]


def bundle_command(run_id: str, configs: Sequence[str | None], overrides: Mapping[str, object]) -> list[str]:
    """The command line of a bundle's run; paths relative to the bundle, as a user would type it.

    Args:
        run_id: as ``training``.
        configs: files, and None for those that are not needed.
        overrides: settings by key.
    """
    files = "[" + ",".join(f"'{config}'" for config in configs if config) + "]"
    words = ["python", "-m", "monai.bundle", "run", run_id, "--config_file", files]
    for key, value in overrides.items():
        words += [f"--{key}", str(value)]
    return words


@dataclass(frozen=True)
class BundleRun:
    """Training and evaluations in folders of their own.

    Attributes:
        bundle: name of the bundle, below `bundles/`.
        commands: what is run.
        trained: folder of the training, which several runs may share.
        folder: folder of the evaluations.
        places: folders of data, and other places on this machine, by their names in the command lines.
        data_sha256: of what the data are, see :func:`files_sha256`.
        until: time of the monotonic clock, in seconds, at which it is stopped; None for never.
        before: command lines of the trainings that this one goes on from, the first one first.
    """

    bundle: str
    commands: Commands
    trained: Path
    folder: Path
    places: Mapping[str, Path]
    data_sha256: str
    until: float | None = None
    before: tuple[list[str], ...] = ()

    def _filled(self, command: Sequence[str], own: Mapping[str, Path]) -> list[str]:
        """The words of a command line with the places of the data, and some of its own, put in."""
        words = list(command)
        for name, place in {**self.places, **own}.items():
            words = [word.replace(name, str(place)) for word in words]
        return words

    def _call(self, command: list[str]) -> None:
        left = None if self.until is None else self.until - time.monotonic()
        if left is not None and left <= 0:
            raise OutOfTime
        words = self._filled(command[1:], {"{TRAINED}": self.trained, "{FOLDER}": self.folder})
        try:
            subprocess.run([sys.executable, *words], cwd=BUNDLES / self.bundle, check=True, timeout=left)
        except subprocess.TimeoutExpired as error:
            raise OutOfTime from error

    @property
    def _trainings(self) -> list[list[str]]:
        return [*self.before, self.commands.train]

    def _once(
        self, name: str, folder: Path, commands: Sequence[list[str]], inputs: str, do: Callable[[], None]
    ) -> None:
        """Do something in a folder, unless it was done there; note what, of which inputs, and on which machine."""
        note = folder / f"{name}.json"
        told = [" ".join(command) for command in commands]
        content = {"commands": told, "data_sha256": self.data_sha256, "inputs_sha256": inputs}
        known = json.loads(note.read_text(encoding="utf-8")) if note.exists() else content
        if known["commands"] != told:
            differing = set(" ".join(known["commands"]).split(" --")) ^ set(" ".join(told).split(" --"))
            raise OtherRun(
                f"{folder} holds a run with other settings: {', '.join(sorted(differing))}. Give another --work-dir."
            )
        if any(known.get(key) != content[key] for key in content):
            changed = "data" if known["data_sha256"] != self.data_sha256 else "configs or weights"
            why = "changed since" if "inputs_sha256" in known else "not noted by an earlier version"
            raise OtherRun(
                f"{folder} holds a run whose {changed} were {why}. Give another --work-dir, or take the folder away."
            )
        if "machine" not in known:
            write_json(note, content)
            do()
            write_json(note, {**content, "machine": machine()})

    def _train(self) -> None:
        (self.trained / "models").mkdir(exist_ok=True)
        begun = (self.trained / "models" / "last.pt").exists()
        self._call([*self.commands.train, "--resume", "True"] if begun else self.commands.train)

    def _evaluate(self) -> None:
        for command in self.commands.evaluate.values():
            self._call(command)

    def train(self) -> None:
        """Train, or go on with what was begun.

        Raises:
            OutOfTime: When it was stopped.
            OtherRun: When the folder holds a run with other settings, data, configs or weights to start from.
        """
        # What the training writes is not filled in: it is no input.
        inputs = _inputs_sha256(self._filled(self.commands.train, {}), BUNDLES / self.bundle)
        self._once("training", self.trained, self._trainings, inputs, self._train)

    def __call__(self) -> None:
        """Train and evaluate, or go on with what was begun.

        Raises:
            OutOfTime: When it was stopped.
            OtherRun: When a folder holds a run with other settings, data, configs or weights.
        """
        self.train()
        evaluations = list(self.commands.evaluate.values())
        words = [word for command in evaluations for word in self._filled(command, {"{TRAINED}": self.trained})]
        inputs = _inputs_sha256(words, BUNDLES / self.bundle)
        self._once("evaluation", self.folder, [*self._trainings, *evaluations], inputs, self._evaluate)

    def write(self, output: Path, **about: object) -> None:
        """Put what the evaluations found into folders that `sam2unet compare` takes.

        Args:
            output: gets `metrics.csv`, `summary.json` and, of one class, `reliability.csv`; and for each evaluation
                named ``eval_NAME`` a folder `NAME/` with the same.
            about: put into `summary.json`, beside the command lines.
        """
        notes = (self.trained / "training.json", self.folder / "evaluation.json")
        machines = [json.loads(note.read_text(encoding="utf-8"))["machine"] for note in notes]
        for name, command in self.commands.evaluate.items():
            found, folder = self.folder / name, output / name.removeprefix("eval").lstrip("_")
            folder.mkdir(parents=True, exist_ok=True)
            # Of several classes there is no reliability.
            for table in [name for name in ("metrics.csv", "reliability.csv") if (found / name).exists()]:
                frame = pd.read_csv(found / table)
                # Where the images lay is of no use elsewhere.
                if "image" in frame:
                    frame["image"] = frame["image"].map(lambda image: Path(image).name)
                frame.round(5).to_csv(folder / table, index=False)
            content = json.loads((found / "summary.json").read_text(encoding="utf-8"))
            settings = {key: value for key, value in content["settings"].items() if key not in PLACES}
            told = [" ".join(words) for words in (*self._trainings, command)]
            made = {"commands": told, "trained_on": machines[0], "evaluated_on": machines[1]}
            measured = {"data_sha256": self.data_sha256, "settings": settings, "sets": content["sets"]}
            write_json(folder / "summary.json", {**about, **made, **measured})
