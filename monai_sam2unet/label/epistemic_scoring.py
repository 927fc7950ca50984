# SPDX-License-Identifier: Apache-2.0
"""Scores the images without a label by how unsure a bundle's network is of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.inferers import Inferer
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.scoring import ScoringMethod

from monai_sam2unet.batch.identity import hashed_uid
from monai_sam2unet.bundle import BundleConfig
from monai_sam2unet.errors import CheckpointError, ConfigError, DataError
from monai_sam2unet.inferers import UncertaintyMaps, epistemic_score
from monai_sam2unet.label.archive import is_uid
from monai_sam2unet.label.bundle_infer_task import BundleInferTask
from monai_sam2unet.label.image_info import update_image_info
from monai_sam2unet.label.image_notes import EPISTEMIC
from monai_sam2unet.label.requested_device import requested_device
from monai_sam2unet.transforms import Preset

__all__ = ["EpistemicScoring", "ImageScore", "at_most", "test_time_augmentation"]

logger = logging.getLogger(__name__)

#: The inferer runs what makes uncertainty of several passes: itself it makes one, and no classes of it.
ONE_PASS = {"flips": [], "scales": [1], "inferer::activation": "identity", "inferer::argmax": False}
#: The flips by the axes of RandFlipd.
FLIPPED = {0: "rows", 1: "columns"}


@dataclass(frozen=True)
class ImageScore:
    """What is known of an image.

    Attributes:
        score: see :func:`monai_sam2unet.inferers.epistemic_score`; None: the bundle cannot read the image.
        weights: which weights it is of.
        reason: why there is none.
    """

    score: float | None
    weights: str
    reason: str | None = None


def test_time_augmentation(folder: Path) -> dict[str, Any]:
    """Flips and scales to predict at: the flips that a bundle is trained with; where it has none, three scales.

    A network that never saw flipped images is unsure of all of them, whatever they show.

    Args:
        folder: of the bundle.
    """
    path = folder / "configs" / "train.yaml"
    config = ConfigParser.load_config_file(path) if path.is_file() else {}
    axes = {
        transform.get("spatial_axis")
        for transform in config.get("train", {}).get("random_transforms", [])
        if transform["_target_"] == "RandFlipd"
    }
    flips = [name for axis, name in FLIPPED.items() if axis in axes]
    if len(flips) == len(FLIPPED):
        flips.append("both")
    return {"flips": flips} if flips else {"scales": [1, 0.75, 1.25]}


def at_most(request: Mapping[str, Any]) -> int:
    """How many images a request lets us score at most, ``max_samples``.

    Args:
        request: viewers send numbers as texts, too.

    Raises:
        ConfigError: When it is no whole number of at least 0.
    """
    given = request.get("max_samples") or 0
    try:
        found = int(given)
    except (TypeError, ValueError):
        found = -1
    if found < 0 or isinstance(given, float):
        raise ConfigError(f"max_samples must be a whole number of images, got {given!r}.")
    return found


class EpistemicScoring(ScoringMethod):
    """Gives each image without a label a score of how unsure the network is of it.

    The score is :func:`monai_sam2unet.inferers.epistemic_score` over test-time augmentation, in [0, 1]. It stands in
    the image's information as ``{"epistemic": {BUNDLE: {"score", "weights", "reason"}}}``, and is made anew when the
    weights have changed since.

    Args:
        task: runs the bundle; its network is used.
    """

    def __init__(self, task: BundleInferTask) -> None:
        self.name = task.folder.name
        super().__init__(f"Score the images without a label by how unsure {self.name} is of them")
        self.task = task
        self.augmentation = test_time_augmentation(task.folder)
        self._made: tuple[Path, tuple[Preset, Callable[..., Any], Inferer, str]] | None = None

    def _parts(self) -> tuple[Preset, Callable[..., Any], Inferer, str]:
        """The bundle's preset, preprocessing and inferer, and its activation, as its weights in use need them."""
        # Other weights, as those of a training in the place of those that came with it, have other settings.
        if self._made is None or self._made[0] != self.task.checkpoint:
            keys = self._config({}).parser
            config = self._config({key: value for key, value in ONE_PASS.items() if key in keys})
            activation = "softmax" if len(config.class_names) > 1 else "sigmoid"
            parts = config.build("preset"), config.build("preprocessing"), config.build("inferer"), activation
            self._made = self.task.checkpoint, parts
        return self._made[1]

    def _config(self, settings: Mapping[str, Any]) -> BundleConfig:
        return BundleConfig.for_inference(self.task.folder, {**self.task.settings, **settings})

    def info(self) -> dict[str, Any]:
        """For viewers: what it does, and its option."""
        return {**super().info(), "config": {"max_samples": 0}}

    def weights(self) -> str:
        """Which weights the bundle has now: the time that their file was written, in nanoseconds.

        Raises:
            CheckpointError: When there are none.
        """
        path = Path(self._config({}).build("ckpt_path"))
        if not path.is_file():
            raise CheckpointError(f"{self.name} has no weights ({path}); train it first.")
        return str(path.stat().st_mtime_ns)

    def known(self, store: Datastore, image: str) -> ImageScore | None:
        """The score that an image has, of whatever weights; None: it was never scored.

        Args:
            store: the studies.
            image: its name.
        """
        found = store.get_image_info(image).get(EPISTEMIC, {}).get(self.name)
        return None if found is None else ImageScore(**found)

    def measure(self, path: str, device: str) -> float:
        """The score of one image.

        Args:
            path: file, or folder of a DICOM series.
            device: where the network runs.

        Raises:
            DataError: When the bundle cannot read the image.
            CheckpointError: When there are no weights.
            ConfigError: When a part of the bundle cannot be made.
            WeightsError: When the weights do not fit the network.
        """
        with self.task.in_turn():
            parts = self._parts()
        preset, preprocessing, inferer, activation = parts
        # What takes long, and needs no network, does not hold up masks.
        image = preprocessing({preset.image_key: path})[preset.image_key]
        with self.task.in_turn(), torch.no_grad():
            if self._parts() is parts:
                maps = UncertaintyMaps(self.task._get_network(device, None), activation, **self.augmentation)
                return epistemic_score(inferer(image[None].to(device), maps)[0])
        # A training has put other weights, with other settings, in the place of these meanwhile.
        return self.measure(path, device)

    def score(self, store: Datastore, image: str, device: str) -> ImageScore:
        """Score an image and note it in the datastore.

        Args:
            store: the studies.
            image: its name.
            device: where the network runs.
        """
        weights = self.weights()
        try:
            found = ImageScore(self.measure(store.get_image_uri(image), device), weights)
        except DataError as error:
            found = ImageScore(None, weights, " ".join(str(error).split()))
        update_image_info(store, image, {self.name: asdict(found)}, key=EPISTEMIC)
        name = hashed_uid(image) if is_uid(image) else image
        logger.info(f"{self.name}: {name} has epistemic score {found.score}")
        return found

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Score the images without a label that have no score of the present weights.

        Args:
            request: ``max_samples``: at most so many, 0 for all; ``device``.
            datastore: the studies.

        Returns:
            Numbers of images: ``total`` without a label, ``skipped`` that had a score, ``executed``; ``failed``: what
            cannot be read, and why; ``latency``, seconds.

        Raises:
            ConfigError: When ``max_samples`` is no number, or the server has no such device.
            CheckpointError: When there are no weights.
            WeightsError: When they do not fit the network.
        """
        start = time.time()
        limit, device = at_most(request), requested_device(request.get("device"))
        images, weights = datastore.get_unlabeled_images(), self.weights()
        before = {image: self.known(datastore, image) for image in images}
        todo = [image for image, score in before.items() if score is None or score.weights != weights]
        scores = {image: self.score(datastore, image, device) for image in todo[: limit or None]}
        return {
            "total": len(images),
            "skipped": len(images) - len(todo),
            "executed": len(scores),
            "failed": {image: score.reason for image, score in scores.items() if score.score is None},
            "latency": round(time.time() - start, 3),
        }
