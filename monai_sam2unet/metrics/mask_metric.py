# SPDX-License-Identifier: Apache-2.0
"""What the metrics of binary masks share."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from monai.data import MetaTensor
from monai.utils import MetricReduction
from torch import Tensor

from monai_sam2unet.errors import DataError
from monai_sam2unet.metrics.case_metric import CaseMetric

__all__ = ["MaskMetric", "check_masks", "quiet_monai"]


@contextmanager
def quiet_monai() -> Iterator[None]:
    """Leave out what MONAI 1.6 says of an argument that it passes to itself."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*get_mask_edges:always_return_as_numpy", FutureWarning)
        yield


def _as_bool(masks: Tensor, name: str) -> Tensor:
    values = masks.as_tensor() if isinstance(masks, MetaTensor) else masks
    if values.dtype == torch.bool:
        return values
    ones = values == 1
    if not bool((ones | (values == 0)).all()):
        raise DataError(
            f"{name} must be binary: bool, or only 0 and 1. It holds other values. Threshold probabilities and masks "
            "of 0 and 255 before, and turn class indices into one channel a class, with MONAI's AsDiscrete(d)."
        )
    return ones


def check_masks(y_pred: Tensor, y: Tensor | None, include_background: bool = False) -> tuple[Tensor, Tensor]:
    """Masks as plain bool tensors, without the channel of the background.

    Args:
        y_pred: predicted masks (B, C, H, W) or (B, C, X, Y, Z): bool, or 0 and 1 in any dtype.
        y: true masks, as ``y_pred``.
        include_background: whether the first of several channels is kept, as in MONAI's metrics.

    Returns:
        Prediction and truth, bool.

    Raises:
        DataError: When the truth is missing, the shapes differ or are none of these, a mask has no pixel, or it is not
            binary.
    """
    if y is None:
        raise DataError("The truth is missing: give y, with the shape of y_pred.")
    if y_pred.shape != y.shape:
        raise DataError(
            f"Prediction {tuple(y_pred.shape)} and truth {tuple(y.shape)} differ in shape. Bring the prediction to the "
            "truth's size before it is thresholded."
        )
    if y_pred.ndim not in (4, 5) or y_pred[:1].numel() == 0:
        raise DataError(f"Masks must be (B, C, H, W) or (B, C, X, Y, Z) and not empty, got {tuple(y_pred.shape)}.")
    pred, truth = _as_bool(y_pred, "y_pred"), _as_bool(y, "y")
    first = 0 if include_background or pred.shape[1] == 1 else 1
    return pred[:, first:], truth[:, first:]


class MaskMetric(CaseMetric):
    """Base of metrics that compare masks.

    Args:
        include_background: whether the first of several channels is measured.
        reduction: as in :class:`~monai_sam2unet.metrics.case_metric.CaseMetric`.
        get_not_nans: as in :class:`~monai_sam2unet.metrics.case_metric.CaseMetric`.

    Raises:
        ConfigError: When there is no such reduction.
    """

    def __init__(
        self,
        include_background: bool = False,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
    ) -> None:
        super().__init__(reduction, get_not_nans)
        self.include_background = include_background
