# SPDX-License-Identifier: Apache-2.0
"""Centerline Dice (clDice): whether thin structures are found along their length, on scikit-image's skeletons."""

from __future__ import annotations

import math

import numpy as np
import torch
from monai.utils import MetricReduction
from numpy.typing import NDArray
from skimage.morphology import skeletonize
from torch import Tensor

from monai_sam2unet.metrics.case_metric import check_choice
from monai_sam2unet.metrics.mask_metric import MaskMetric, check_masks

__all__ = ["CenterlineDiceMetric", "compute_centerline_dice"]

ONE_EMPTY = ("zero", "ignore")

Mask = NDArray[np.bool_]


def _centerline(mask: Mask) -> Mask:
    skeleton: Mask = skeletonize(mask).astype(bool)
    # Lee's thinning of volumes deletes the smallest bodies, as 2 x 2 x 2 voxels: these are their own centerline.
    return skeleton if skeleton.any() else mask


def _share_inside(line: Mask, mask: Mask) -> float:
    return float(np.count_nonzero(line & mask) / np.count_nonzero(line))


def _score(pred: Mask, truth: Mask, one_empty: float) -> float:
    if not (pred.any() and truth.any()):
        return 1.0 if pred.any() == truth.any() else one_empty
    precision, sensitivity = _share_inside(_centerline(pred), truth), _share_inside(_centerline(truth), pred)
    return 2 * precision * sensitivity / (precision + sensitivity) if precision + sensitivity else 0.0


def compute_centerline_dice(
    y_pred: Tensor, y: Tensor, *, one_empty: str = "zero", include_background: bool = False
) -> Tensor:
    """Harmonic mean of two shares: of the prediction's centerline inside the truth, and of the truth's inside it.

    clDice of Shit et al., CVPR 2021 (arXiv 2003.07311), who call the shares topology precision and topology
    sensitivity. Dice counts pixels, most of which belong to the thickest vessels; here each vessel counts by its
    length. Centerlines are scikit-image's ``skeletonize``: of pictures by Zhang and Suen's thinning, of volumes by
    Lee's, as in the authors' code.

    Where both masks are empty, it is 1. Where only one is, ``one_empty`` decides.

    Args:
        y_pred: predicted masks (B, C, H, W) or (B, C, X, Y, Z), binary; on a GPU they are brought to the CPU.
        y: true masks, as ``y_pred``.
        one_empty: ``"zero"``: 0; or ``"ignore"``: NaN.
        include_background: whether the first of several channels is measured.

    Returns:
        (B, C without the background), float32 in [0, 1].

    Raises:
        ConfigError: When ``one_empty`` is neither.
        DataError: When masks are not binary or differ in shape.

    Example:
        >>> truth = torch.zeros(1, 1, 30, 40)
        >>> truth[..., 10, 5:35] = 1
        >>> pred = truth.clone()
        >>> pred[..., 25:] = 0  # two thirds of its length are found: 2 * 1 * 2/3 / (1 + 2/3)
        >>> compute_centerline_dice(pred, truth)
        tensor([[0.8000]])
    """
    check_choice("one_empty", one_empty, ONE_EMPTY)
    pred, truth = check_masks(y_pred, y, include_background)
    unequal = 0.0 if one_empty == "zero" else math.nan
    pairs = zip(*(masks.flatten(0, 1).cpu().numpy() for masks in (pred, truth)), strict=True)
    scores = [_score(own, other, unequal) for own, other in pairs]
    return torch.tensor(scores, dtype=torch.float32, device=pred.device).reshape(pred.shape[:2])


class CenterlineDiceMetric(MaskMetric):
    """Mean clDice over images; see :func:`compute_centerline_dice`.

    Args:
        one_empty: what counts where only prediction or truth is empty: ``"zero"``, or ``"ignore"``.
        include_background: whether the first of several channels is measured.
        reduction: one of MONAI's, over the values that are not NaN; NaN where all are.
        get_not_nans: whether ``aggregate`` also returns how many values were counted.

    Raises:
        ConfigError: When an option is none of these.

    Example:
        >>> metric = CenterlineDiceMetric()
        >>> truth = torch.zeros(1, 30, 40)
        >>> truth[:, 10:13, 5:35] = 1
        >>> _ = metric([truth], [truth])
        >>> metric.aggregate()
        tensor([1.])
    """

    def __init__(
        self,
        one_empty: str = "zero",
        include_background: bool = False,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
    ) -> None:
        super().__init__(include_background, reduction, get_not_nans)
        self.one_empty = check_choice("one_empty", one_empty, ONE_EMPTY)

    def _compute_tensor(self, y_pred: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
        return compute_centerline_dice(y_pred, y, one_empty=self.one_empty, include_background=self.include_background)
