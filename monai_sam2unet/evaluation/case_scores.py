# SPDX-License-Identifier: Apache-2.0
"""Scores of a few cases of one size, in both readings: the papers' protocol and the clinical one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.metrics import compute_confusion_matrix_metric, compute_dice, compute_iou, get_confusion_matrix
from numpy.typing import NDArray
from torch import Tensor

from monai_sam2unet.errors import DataError
from monai_sam2unet.evaluation.columns import MEASURED_CURVES
from monai_sam2unet.metrics import (
    compute_boundary_scores,
    compute_centerline_dice,
    compute_false_alarms,
    compute_hausdorff_distance_95,
    compute_map_scores,
    compute_normalized_surface_dice,
    to_eight_bit,
)
from monai_sam2unet.metrics.empty_truth import EmptyTruth

__all__ = ["BOUNDARY_TOLERANCE", "class_scores", "clinical_scores", "cropped", "papers_scores", "to_probabilities"]

#: Of the boundary F, as a share of the image's diagonal.
BOUNDARY_TOLERANCE = 0.008

Scores = dict[str, NDArray[np.float64]]
TAKEN_UNCHANGED = ("s_measure", "e_adaptive", "weighted_f", "f_adaptive", "mae", "iou_fixed")


def to_probabilities(maps: Tensor) -> Tensor:
    """Maps as probabilities: uint8 are levels of 255, all else is taken as it is.

    Args:
        maps: uint8 in 0..255, or probabilities in [0, 1].

    Returns:
        Of the same shape, floating point.
    """
    if maps.dtype == torch.uint8:
        return maps.float() / 255
    return maps if maps.dtype == torch.float64 else maps.float()


def checked_batch(probabilities: Tensor, truth: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Maps and masks of a batch as plain tensors on one device.

    Args:
        probabilities: (B, channels, H, W), in [0, 1]; or uint8 levels 0..255.
        truth: of the same shape; above 0 is foreground.
        channels: number of classes.

    Returns:
        Maps as given, and masks, bool.

    Raises:
        DataError: When shapes are others, or a value is not in [0, 1] or NaN.
    """
    maps = torch.as_tensor(probabilities).detach()
    mask = torch.as_tensor(truth).detach().to(maps.device) > 0
    # Metadata makes each operation slow, and does nothing here.
    maps, mask = (x.as_tensor() if hasattr(x, "as_tensor") else x for x in (maps, mask))
    if maps.shape != mask.shape:
        shapes = (tuple(x.shape[1:]) for x in (maps, mask))
        raise DataError("Prediction {} and truth {} differ in size.".format(*shapes))
    if maps.ndim != 4 or maps.shape[1] != channels or 0 in maps.shape:
        raise DataError(f"Maps are ({channels}, H, W) here, got {tuple(maps.shape[1:])}.")
    if maps.dtype != torch.uint8 and not bool(((maps >= 0) & (maps <= 1)).all()):
        raise DataError(
            "Probabilities are in [0, 1], and none is NaN; these are not. Of logits take the sigmoid before."
        )
    return maps, mask


def _numbers(values: Tensor) -> NDArray[np.float64]:
    return values.detach().double().cpu().numpy()


def papers_scores(maps: Tensor, truth: Tensor, empty_truth: EmptyTruth = 0) -> tuple[Scores, Scores]:
    """Score maps as the papers do: min-max normalised per image, 8 bit, over all thresholds.

    Args:
        maps: (B, 1, H, W), probabilities; or uint8 levels as a file holds them, which are taken unchanged.
        truth: (B, 1, H, W), bool.
        empty_truth: what 0/0 counts; see :func:`monai_sam2unet.metrics.compute_map_scores`.

    Returns:
        Scores (B,) by column, without the maxima, which are of a whole set; and curves (B, 256) by name.
    """
    levels = maps if maps.dtype == torch.uint8 else to_eight_bit(maps)
    found = compute_map_scores(levels, truth, empty_truth=empty_truth)
    curves = {name: _numbers(curve) for name, curve in found.curves.items()}
    scores = {name: _numbers(found.values[name]) for name in TAKEN_UNCHANGED}
    for name in MEASURED_CURVES:
        scores[f"{name}_mean"] = curves[name].mean(1)
    return scores, curves


def clinical_scores(
    maps: Tensor,
    truth: Tensor,
    threshold: float = 0.5,
    tolerance: float | None = 2.0,
    spacings: Sequence[Sequence[float]] | None = None,
    centerline: bool = False,
) -> Scores:
    """Score the masks that a fixed threshold makes of the maps, as they are.

    Args:
        maps: (B, 1, H, W), probabilities, or uint8 levels of 255.
        truth: (B, 1, H, W), bool.
        threshold: pixels with at least this probability are foreground.
        tolerance: of the surface Dice, in mm if there are spacings, else in pixels. None: HD95, surface Dice and
            boundary F are left out.
        spacings: mm between rows and between columns of each case; None: distances are in pixels.
        centerline: whether clDice is computed.

    Returns:
        Scores (B,) by column; NaN where a case does not count.
    """
    mask = to_probabilities(maps) >= threshold
    scores = _overlap(mask, truth)
    if tolerance is not None:
        scores |= _surfaces(mask, truth, tolerance, spacings)
        boundary = compute_boundary_scores(
            mask, truth, tolerance=BOUNDARY_TOLERANCE, unit="diagonal", include_background=True
        )
        scores["boundary_f"] = _numbers(boundary.f_measure)[:, 0]
    if centerline:
        scores["cldice"] = _numbers(compute_centerline_dice(mask, truth, include_background=True))[:, 0]
    confusion = get_confusion_matrix(mask.float(), truth.float())
    scores["balanced_error_rate"] = 1 - _numbers(compute_confusion_matrix_metric("balanced accuracy", confusion))[:, 0]
    for column, value in (("false_alarm", "rate"), ("false_alarm_area", "area")):
        scores[column] = _numbers(compute_false_alarms(mask, truth, value=value, include_background=True))[:, 0]
    return scores


def _overlap(mask: Tensor, truth: Tensor) -> Scores:
    given = (mask.float(), truth.float())
    return {
        "dice": _numbers(compute_dice(*given, ignore_empty=False).mean(1)),
        "iou": _numbers(compute_iou(*given, ignore_empty=False).mean(1)),
    }


def cropped(mask: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Two masks without the rows and columns that are farther than a pixel from either of them.

    The outlines stay the same, and most of the work is saved.

    Args:
        mask: (1, 1, H, W) or (1, 1, X, Y, Z), bool.
        truth: of the same shape; one of them is not empty.

    Returns:
        Both, smaller.
    """
    either = (mask | truth)[0, 0]
    box: list[slice] = [slice(None)] * 2
    for axis in range(either.ndim):
        others = tuple(other for other in range(either.ndim) if other != axis)
        used = either.any(others).nonzero()
        box.append(slice(max(0, int(used[0]) - 1), int(used[-1]) + 2))
    return mask[tuple(box)], truth[tuple(box)]


def _surfaces(mask: Tensor, truth: Tensor, tolerance: float, spacings: Sequence[Sequence[float]] | None) -> Scores:
    distances, dice = [], []
    for b in range(len(mask)):
        pair = mask[b : b + 1], truth[b : b + 1]
        # Where one of them is empty, the image's diagonal counts, so its size matters.
        if all(bool(x.any()) for x in pair):
            pair = cropped(*pair)
        unit: dict[str, Any] = {"unit": "pixels"} if spacings is None else {"unit": "mm", "spacing": spacings[b]}
        distances.append(compute_hausdorff_distance_95(*pair, include_background=True, **unit)[0, 0])
        dice.append(compute_normalized_surface_dice(*pair, tolerance, include_background=True, **unit)[0, 0])
    return {"hd95": _numbers(torch.stack(distances)), "surface_dice": _numbers(torch.stack(dice))}


def class_scores(
    maps: Tensor, truth: Tensor, class_names: Sequence[str], threshold: float = 0.5, centerline: bool = False
) -> Scores:
    """Dice and IoU of each class, and their means over the classes as ``dice`` and ``iou``.

    Args:
        maps: (B, K, H, W), probabilities or masks of the K classes, or uint8 levels of 255.
        truth: (B, K, H, W), bool.
        class_names: K names.
        threshold: pixels with at least this probability are of the class.
        centerline: whether clDice is computed.

    Returns:
        Scores (B,) by column: ``dice``, ``iou``, and ``dice_NAME``, ``iou_NAME`` for each class; so with ``cldice``.
    """
    mask = to_probabilities(maps) >= threshold
    scores = _overlap(mask, truth)
    found_by_column = {
        "dice": compute_dice(mask.float(), truth.float(), ignore_empty=False),
        "iou": compute_iou(mask.float(), truth.float(), ignore_empty=False),
    }
    if centerline:
        found_by_column["cldice"] = compute_centerline_dice(mask, truth, include_background=True)
        scores["cldice"] = _numbers(found_by_column["cldice"].mean(1))
    for column, values in found_by_column.items():
        found = _numbers(values)
        scores |= {f"{column}_{name}": found[:, k] for k, name in enumerate(class_names)}
    return scores
