# SPDX-License-Identifier: Apache-2.0
"""Trains a bundle for MONAI Label on the labels that annotators submitted, and lets it run with what it learnt."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.utils.others.generic import device_list

from monai_sam2unet.bundle import BundleConfig
from monai_sam2unet.bundle.command_line import explain_user_errors
from monai_sam2unet.errors import CheckpointError, ConfigError, DataError, UserError, text_of
from monai_sam2unet.folders import whole_file, why_not_writable
from monai_sam2unet.label.fine_tuning import FineTuning
from monai_sam2unet.label.held_out import hold_out_patients
from monai_sam2unet.label.label_preparation import LabelPreparation
from monai_sam2unet.label.published_weights import PublishedWeights
from monai_sam2unet.label.submitted_labels import SubmittedLabel, by_patient, submitted_labels
from monai_sam2unet.label.train_request import TrainRequest, settable_keys
from monai_sam2unet.transforms import Preset

__all__ = ["BundleTrainTask", "training_lock"]

logger = logging.getLogger(__name__)

Sides = dict[str, list[SubmittedLabel]]
#: Share of the patients held out, as in MONAI Label's own trainings.
VAL_SPLIT = 0.2
#: Share of the learning rate of ``train.yaml``, which is for weights that are not trained yet.
FINE_TUNING = 0.1
SIDES = ("training", "validation")


def training_lock(folder: Path) -> FileLock:
    """What a training holds as long as it runs, so that no two of one bundle do; waited for by nobody.

    Args:
        folder: of the bundle.
    """
    return FileLock(folder / "models" / ".training.lock", timeout=0)


class BundleTrainTask(TrainTask):
    """Goes on training adapters and decoder of a bundle's weights in use.

    Each training has a folder, ``models/NAME`` in that of the bundle: ``model.pt``, its best epoch; ``last.pt``, to
    resume from; ``cases.json``, what is trained on and what is held out; and ``runs``, for TensorBoard.

    Args:
        folder: of the bundle.
        settings: for keys of its inference config, as :class:`BundleInferTask` has them.

    Raises:
        ConfigError: When the folder is no bundle, or one without ``train.yaml``.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder, self.settings = folder, dict(settings)
        config = self._config()
        self.keys = settable_keys(config.parser.get())
        rate = self.keys.get("learning_rate")
        # The defaults that are not those of train.yaml.
        self._defaults = {"learning_rate": rate * FINE_TUNING} if isinstance(rate, int | float) else {}
        self.keys |= self._defaults
        self.label_ids = config.label_ids
        self.version = config.metadata["version"]
        # Of the labels' numbers /info/ tells the meaning, not the data that the bundle was once trained on.
        self._numbers: dict[str, Any] = {"label_ids": None} if "label_ids" in config.parser else {}
        self.models = folder / "models"
        self._stats = self.models / "train_stats.json"
        super().__init__(config.metadata["description"])

    def _config(self, **settings: Any) -> BundleConfig:
        given = {**settings, "bundle_root": str(self.folder)}
        return BundleConfig(self.folder, given, name="train.yaml")

    def info(self) -> dict[str, Any]:
        """What viewers are told of it."""
        return {**super().info(), "labels": list(self.label_ids), "version": self.version}

    def config(self) -> dict[str, Any]:
        """The parameters that viewers offer, with their values; more are known."""
        shown: dict[str, Any] = {key: self.keys[key] for key in ("max_epochs", "learning_rate") if key in self.keys}
        own = {"name": "train_01", "device": device_list(), "val_split": VAL_SPLIT, "resume": False}
        return {**own, **shown, "train_batch_size": self.keys["batch_size"]}

    def stats(self) -> dict[str, Any]:
        """How far the training is, or how the last one ended; empty: there was none."""
        try:
            found: dict[str, Any] = json.loads(self._stats.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return found

    def is_running(self) -> bool:
        """Whether a training of this bundle is at work, be it of another server."""
        try:
            with self._lock():
                return False
        except Timeout:
            return True

    def _lock(self) -> FileLock:
        return training_lock(self.folder)

    def check(self, request: Mapping[str, Any], datastore: Datastore) -> None:
        """Refuse what cannot be trained, as far as parameters and labels tell, for viewers show what is told at once.

        Args:
            request: as :class:`TrainRequest` knows it.
            datastore: the studies.

        Raises:
            ConfigError: When a parameter is not known or not allowed, there is no such training to resume, the weights
                in use cannot be replaced, or nothing can be written to the bundle's folder.
            DataError: When there are labels of fewer than two patients; or they cannot be read or hold other classes.
        """
        asked = self._asked(request)
        patients = self._patients(datastore, asked)
        self._preparation().check([label for labels in patients.values() for label in labels])

    def _asked(self, request: Mapping[str, Any]) -> TrainRequest:
        asked = TrainRequest.of(request, self.keys, VAL_SPLIT)
        self._weights()
        if asked.resume and not (self.models / asked.name / "last.pt").is_file():
            raise ConfigError(
                f"There is no training {asked.name!r} of {self.folder.name} that finished an epoch and could be "
                "resumed. Leave out resume to start anew."
            )
        reason = why_not_writable(self.models)
        if reason is not None:
            raise ConfigError(f"Trainings write to {self.models}, which cannot be written to: {reason}.")
        return replace(asked, settings={**self._defaults, **asked.settings, **self._numbers})

    def _preparation(self) -> LabelPreparation:
        return LabelPreparation(self._preset(), self.label_ids)

    def _weights(self) -> PublishedWeights:
        return PublishedWeights(BundleConfig.for_inference(self.folder, self.settings), "ckpt_path" in self.settings)

    def _preset(self) -> Preset:
        found: Preset = self._config(**self._numbers).build("preset")
        return found

    def _patients(self, datastore: Datastore, asked: TrainRequest) -> dict[str, list[SubmittedLabel]]:
        labels = submitted_labels(datastore, self._preset().is_volume, self.label_ids)
        pattern = asked.settings.get("group_pattern", self.keys.get("group_pattern"))
        patients = by_patient(labels, pattern) if labels else {}
        if len(patients) < 2:
            kind = "volumes" if self._preset().is_volume else "pictures"
            of_whom = f" {kind}, all of one patient," if len(labels) > 1 else f" {kind}"
            raise DataError(
                f"{len(labels)} submitted labels of{of_whom} are too few to train {self.folder.name} on: labels of two "
                "patients are needed, of whom one is held out to measure on. Submit more labels (tag: final)."
            )
        return patients

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Train.

        Args:
            request: as :class:`TrainRequest` knows it.
            datastore: the studies, with labels.

        Returns:
            How it ended: what :meth:`FineTuning.run` gives, with the training's ``name``.

        Raises:
            UserError: As :meth:`check`; when another training of this bundle is at work; when images cannot be read or
                do not fit; or as :class:`FineTuning`.
        """
        explain_user_errors()
        asked = self._asked(request)
        told = {"name": asked.name, "start_ts": int(time.time())}
        try:
            with self._lock():
                self._tell(told)
                try:
                    result = self._train(asked, datastore, told)
                except UserError as error:
                    self._tell({**told, "error": text_of(error)})
                    raise
                self._tell(result)
                return result
        except Timeout as error:
            raise ConfigError(f"Another training of {self.folder.name} is at work; wait for it, or end it.") from error

    def _train(self, asked: TrainRequest, datastore: Datastore, told: dict[str, Any]) -> dict[str, Any]:
        folder = self.models / asked.name
        sides = self._resumed(datastore, asked, folder) if asked.resume else self._chosen(datastore, asked, folder)
        prepare = self._preparation()
        cases = {side: prepare.write(labels, folder / "labels") for side, labels in sides.items()}
        training = FineTuning(self._weights(), asked, cases["training"], cases["validation"], folder)
        counts = {f"num_{side}": len(labels) for side, labels in cases.items()}
        result = training.run(lambda stats: self._tell({**stats, **told, **counts}))
        return {**result, **told, **counts}

    def _tell(self, stats: Mapping[str, Any]) -> None:
        with whole_file(self._stats) as path:
            path.write_text(json.dumps(stats, indent=1), encoding="utf-8")

    def _chosen(self, datastore: Datastore, asked: TrainRequest, folder: Path) -> Sides:
        """The cases of a new training; what an earlier one of its name left is removed."""
        patients = self._patients(datastore, asked)
        held_out = hold_out_patients(patients, asked.val_split, self.models / "held_out.json")
        sides: Sides = {side: [] for side in SIDES}
        for patient, labels in patients.items():
            sides["validation" if patient in held_out else "training"] += labels
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("last.pt", "model.pt", "model.cases.json"):
            (folder / name).unlink(missing_ok=True)
        with whole_file(folder / "cases.json") as path:
            content = {side: [label.id for label in labels] for side, labels in sides.items()}
            path.write_text(json.dumps(content, indent=1), encoding="utf-8")
        return sides

    def _resumed(self, datastore: Datastore, asked: TrainRequest, folder: Path) -> Sides:
        """The cases of a training that was broken off; labels that came since are for the next one."""
        labels = [label for own in self._patients(datastore, asked).values() for label in own]
        try:
            content = json.loads((folder / "cases.json").read_text(encoding="utf-8"))
            ids = {side: set(content[side]) for side in SIDES}
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise CheckpointError(
                f"{folder / 'cases.json'}, which says what the training {asked.name!r} is on, cannot be read. Leave "
                "out resume to start anew."
            ) from error
        sides = {side: [label for label in labels if label.id in ids[side]] for side in SIDES}
        lost = [name for side in SIDES for name in sorted(ids[side] - {label.id for label in sides[side]})]
        if lost:
            raise DataError(
                f"The training {asked.name!r} cannot be resumed: the labels of {', '.join(lost[:5])} are gone. Leave "
                "out resume to start anew."
            )
        others = len(labels) - sum(map(len, sides.values()))
        if others:
            logger.info(f"{others} labels were submitted since; the next training takes them.")
        return sides
