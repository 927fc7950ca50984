# SPDX-License-Identifier: Apache-2.0
"""Scores of each class in whole volumes: overlap, and the distance of outlines in mm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from monai.metrics import compute_dice, compute_iou
from torch import Tensor

from monai_sam2unet.errors import DataError
from monai_sam2unet.evaluation.case_scores import cropped
from monai_sam2unet.evaluation.columns import VOLUME_IDENTITY_COLUMNS
from monai_sam2unet.evaluation.score_table import ScoreTable
from monai_sam2unet.metrics import compute_hausdorff_distance_95
from monai_sam2unet.metrics.mask_spacing import image_spacings
from monai_sam2unet.transforms.tensors import plain

__all__ = ["VOLUME_COLUMNS", "VolumeScoreTable", "volume_scores"]

#: Scores of each class of a volume, and of all as their mean.
VOLUME_COLUMNS = ("dice", "iou", "hd95")


def volume_scores(
    prediction: Tensor, truth: Tensor, class_names: Sequence[str], spacing: Sequence[float] | None = None
) -> dict[str, float]:
    """Dice, IoU and HD95 of each class in one volume, and their means over the classes.

    A class that neither prediction nor truth has counts as found: Dice and IoU 1, HD95 0. One that only one of them has
    has Dice and IoU 0, and as HD95 the volume's diagonal.

    Args:
        prediction: class indices (1, X, Y, Z), 0 the background.
        truth: class indices of the same shape.
        class_names: names of the classes, from index 1 on.
        spacing: mm along each axis, so that HD95 is in mm; None: in voxels.

    Returns:
        Scores by column: ``dice``, ``iou`` and ``hd95``, and each with ``_NAME``.

    Example:
        >>> import torch
        >>> truth = torch.zeros(1, 4, 4, 4)
        >>> truth[:, 1:3, 1:3, 1:3] = 1
        >>> volume_scores(truth.roll(1, 3), truth, ["liver"], spacing=(1, 1, 5))
        {'dice': 0.5, 'dice_liver': 0.5, 'iou': 0.333..., 'iou_liver': 0.333..., 'hd95': 5.0, 'hd95_liver': 5.0}
    """
    unit: dict[str, Any] = {"unit": "pixels"} if spacing is None else {"unit": "mm", "spacing": spacing}
    found: dict[str, list[float]] = {column: [] for column in VOLUME_COLUMNS}
    for index in range(1, len(class_names) + 1):
        # A class at a time: masks of all would be many times the volume.
        pair = (prediction == index)[None], (truth == index)[None]
        # Where one of them is empty, the volume's diagonal counts, so its size matters.
        if all(bool(mask.any()) for mask in pair):
            pair = cropped(*pair)
        distance = compute_hausdorff_distance_95(*pair, include_background=True, **unit)
        found_mask, true_mask = (mask.float() for mask in pair)
        for column, value in (
            ("dice", compute_dice(found_mask, true_mask, ignore_empty=False)),
            ("iou", compute_iou(found_mask, true_mask, ignore_empty=False)),
            ("hd95", distance),
        ):
            found[column].append(float(value))
    scores: dict[str, float] = {}
    for column, values in found.items():
        scores[column] = float(np.mean(values))
        scores |= {f"{column}_{name}": value for name, value in zip(class_names, values, strict=True)}
    return scores


class VolumeScoreTable(ScoreTable):
    """Scores whole volumes, one by one, class by class; otherwise as :class:`ScoreTable`.

    Args:
        class_names: names of the classes, from index 1 on.
        unit: of HD95: ``"mm"``, by the affine of the MetaTensors; or ``"pixels"``, which are voxels.

    Raises:
        ConfigError: When a value is not allowed.

    Example:
        >>> import torch
        >>> table = VolumeScoreTable(["RV", "LV"], unit="pixels")
        >>> classes = torch.tensor([0, 0, 1, 2]).repeat(1, 4, 4, 1)
        >>> table.add("ACDC", "1.nii.gz", classes, classes)
        >>> table.summary()["ACDC"]["mean_dice_LV"]
        1.0
    """

    MIN_CLASSES = 1

    def __init__(self, class_names: Sequence[str], unit: str = "mm") -> None:
        super().__init__(unit=unit, class_names=class_names)

    @property
    def clinical_title(self) -> str:
        """What is measured."""
        return "Whole volumes, the likeliest class of each voxel, at native size"

    @property
    def identity_columns(self) -> tuple[str, ...]:
        """The columns before the scores."""
        return VOLUME_IDENTITY_COLUMNS

    @property
    def clinical_columns(self) -> list[str]:
        """The score columns."""
        names = self.class_names or ()
        return [*VOLUME_COLUMNS, *(f"{column}_{name}" for column in VOLUME_COLUMNS for name in names)]

    @property
    def settings(self) -> dict[str, Any]:
        """How the scores are made, for the record."""
        made = super().settings
        return {**{name: made[name] for name in made if name != "threshold"}, "unit": self.unit}

    def add(self, dataset: str, image: str, probabilities: Tensor, truth: Tensor) -> None:
        """Score one volume.

        Args:
            dataset: the set that it belongs to.
            image: its name, once in each set.
            probabilities: no probabilities, but class indices (1, X, Y, Z), 0 the background.
            truth: class indices of the same shape, a MetaTensor with the affine where the unit is mm.

        Raises:
            DataError: When shapes are others, an index is no class, a case is there already, or the unit is mm and the
                spacing is not known.
        """
        self._check_new([(dataset, image)])
        prediction, label = plain(probabilities).detach(), plain(truth).detach().to(probabilities.device)
        if prediction.shape != label.shape or prediction.ndim != 4 or len(prediction) != 1 or 0 in prediction.shape:
            shapes = f"{tuple(prediction.shape)} and truth {tuple(label.shape)}"
            raise DataError(f"{image}: volumes of class indices are (1, X, Y, Z); the prediction is {shapes}.")
        names = self.class_names or ()
        wrong = [float(x.max()) for x in (prediction, label) if not 0 <= float(x.max()) <= len(names)]
        if wrong:
            raise DataError(f"{image}: class indices are 0 to {len(names)} here, got {wrong[0]:g}.")
        spacing = image_spacings(probabilities[None], truth[None], "mm")[0] if self.unit == "mm" else None
        scores = volume_scores(prediction, label, names, spacing)
        identity = (dataset, image, *prediction.shape[1:], float((label > 0).float().mean()))
        self.rows.append({**dict(zip(self.identity_columns, identity, strict=True)), **scores})
        self._cases.add(dataset, {}, None)
        self._known.add((dataset, image))

    def add_batch(self, datasets: Sequence[str], images: Sequence[str], probabilities: Tensor, truth: Tensor) -> None:
        """Score volumes of one size; as :meth:`add`, with class indices (B, 1, X, Y, Z)."""
        for case in zip(datasets, images, probabilities, truth, strict=True):
            self.add(*case)
