# SPDX-License-Identifier: Apache-2.0
"""Dice of what models predicted against what annotators made of it, class by class."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor
from monai.metrics import compute_dice
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.tasks.scoring import ScoringMethod
from torch import Tensor

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.label.bundle_infer_task import BundleInferTask
from monai_sam2unet.label.image_info import update_image_info
from monai_sam2unet.label.label_numbers import class_numbers, names_by_number
from monai_sam2unet.label.single_slice import as_picture
from monai_sam2unet.transforms import LoadAnyImage, MatchOrientation
from monai_sam2unet.transforms.tensors import plain

__all__ = ["DiceScoring", "class_dice"]

#: What annotators submitted, and what models predicted.
DEFAULT_TAGS = (DefaultLabelTag.FINAL.value, DefaultLabelTag.ORIGINAL.value)


def class_dice(predicted: Tensor, truth: Tensor, classes: Mapping[str, int]) -> dict[str, float]:
    """Dice of each class, in [0, 1]; 1 where neither has it, as in the bundles' validation.

    Args:
        predicted: class numbers, of any shape.
        truth: of the same shape.
        classes: numbers by name.

    Example:
        >>> class_dice(torch.tensor([[1, 1, 0]]), torch.tensor([[1, 0, 0]]), {"RV": 1, "LV": 3})
        {'RV': 0.666..., 'LV': 1.0}
    """
    return {
        name: float(compute_dice((predicted == number)[None, None], (truth == number)[None, None], ignore_empty=False))
        for name, number in classes.items()
    }


def _tags(request: Mapping[str, Any]) -> tuple[str, str]:
    """Those of the true masks, and of the predicted ones."""
    true, predicted = DEFAULT_TAGS
    return request.get("y") or true, request.get("y_pred") or predicted


class DiceScoring(ScoringMethod):
    """Compares two masks of each image, as MONAI Label's own task does, and tells classes apart.

    By default these are the model's mask, which was saved with the tag ``original``, and the annotator's, ``final``.

    Args:
        tasks: models by name.
    """

    def __init__(self, tasks: Mapping[str, BundleInferTask]) -> None:
        super().__init__("Compute Dice of predicted against submitted labels, class by class")
        self.tasks = tasks

    def info(self) -> dict[str, Any]:
        """For viewers: what it does, and its options."""
        return {**super().info(), "config": {"model": ["", *self.tasks], "y": "final", "y_pred": "original"}}

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Compare the masks of all images that have both.

        The mean goes into the image's information as ``dice``, the classes' as ``dice_by_class``.

        Args:
            request: ``y`` and ``y_pred``, tags of the masks; ``model``: predict anew by this model, instead of taking
                the saved masks; ``device``.
            datastore: the studies.

        Returns:
            ``images``: for each ``{"model", "dice", "classes"}``; ``mean`` of their ``dice``, by model; ``failed``:
            what cannot be compared, and why.

        Raises:
            ConfigError: As :meth:`check`.
        """
        self.check(request, datastore)
        given = request.get("model") or None
        tag, tag_predicted = _tags(request)
        images: dict[str, dict[str, Any]] = {}
        failed: dict[str, str] = {}
        for image in datastore.list_images():
            tags = datastore.get_labels_by_image_id(image)
            if tag not in tags or not (given or tag_predicted in tags):
                continue
            try:
                model = given or self._model_of(datastore, image, tag_predicted)
                truth = self._saved(datastore, image, tag, model)
                if given:
                    predicted = self._predicted_anew(datastore, image, model, request)
                else:
                    predicted = self._saved(datastore, image, tag_predicted, model)
                classes = class_dice(predicted, _on_grid_of(predicted, truth), self.tasks[model].labels)
            except DataError as error:
                failed[image] = " ".join(str(error).split())
                continue
            dice = statistics.mean(classes.values())
            images[image] = {"model": model, "dice": dice, "classes": classes}
            update_image_info(datastore, image, {"dice": dice, "dice_by_class": classes})
        by_model: dict[str, list[float]] = {}
        for found in images.values():
            by_model.setdefault(found["model"], []).append(found["dice"])
        mean = {name: statistics.mean(values) for name, values in by_model.items()}
        return {"images": images, "mean": mean, "failed": failed}

    def check(self, request: Mapping[str, Any], datastore: Datastore) -> None:
        """Refuse what cannot be compared, before anything is.

        Args:
            request: as of a call.
            datastore: the studies.

        Raises:
            ConfigError: When there is no such model; or no label has a tag that is asked for, other than the two that
                are taken by default, of which there may be none yet.
        """
        given = request.get("model") or None
        if given is not None and given not in self.tasks:
            raise ConfigError(f"There is no model {given!r}; there are {', '.join(self.tasks)}.")
        asked = {"y": _tags(request)[0]} | ({} if given else {"y_pred": _tags(request)[1]})
        there = datastore.status()["label_tags"]
        for key, tag in asked.items():
            if tag not in there and tag not in DEFAULT_TAGS:
                told = ", ".join(there) or "none"
                raise ConfigError(f"{key}: no label has the tag {tag!r}; the tags of labels are {told}.")

    def _model_of(self, store: Datastore, image: str, tag: str) -> str:
        model = store.get_label_info(image, tag).get("model")
        if model is None and len(self.tasks) == 1:
            return next(iter(self.tasks))
        if model not in self.tasks:
            raise DataError(
                f"Nothing says which model predicted the label {tag!r}, or it is not served ({model}): name a model."
            )
        return str(model)

    def _saved(self, store: Datastore, image: str, tag: str, model: str) -> MetaTensor:
        # MONAI Label's DICOMweb store would look for a series of the label's name; its local copy has the file.
        local = LocalDatastore if type(store) is DICOMWebDatastore else type(store)
        # A store of a PACS fetches the label and what is known of it now.
        path = local.get_label_uri(store, image, tag)
        return self._read(path, model, names_by_number(store.get_label_info(image, tag)))

    def _predicted_anew(self, store: Datastore, image: str, model: str, request: Mapping[str, Any]) -> MetaTensor:
        asked = {"image": store.get_image_uri(image), "device": request.get("device")}
        path, _ = self.tasks[model](asked)
        try:
            return self._read(str(path), model)
        finally:
            Path(str(path)).unlink()

    def _read(self, path: str, model: str, names: Mapping[int, str] | None = None) -> MetaTensor:
        task = self.tasks[model]
        values = LoadAnyImage("label", require_orientation=False)(path)
        if task.dimension == 2:
            values = as_picture(values)
        if values.ndim != task.dimension + 1:
            kind = "volume" if task.dimension == 3 else "picture"
            raise DataError(f"{path} is no mask of a {kind}: its shape is {tuple(values.shape[1:])}.")
        try:
            found = torch.from_numpy(class_numbers(plain(values).numpy(), task.labels, names))
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
        return MetaTensor(found).copy_meta_from(values)


def _on_grid_of(predicted: MetaTensor, truth: MetaTensor) -> MetaTensor:
    if predicted.ndim == 4:
        return MatchOrientation()(truth, predicted)
    if predicted.shape != truth.shape:
        raise DataError(f"The masks have {tuple(predicted.shape[1:])} and {tuple(truth.shape[1:])} pixels.")
    return truth
