# SPDX-License-Identifier: Apache-2.0
"""How often, or how much, is predicted in images that show no object."""

from __future__ import annotations

import torch
from monai.utils import MetricReduction
from torch import Tensor

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.metrics.case_metric import check_choice
from monai_sam2unet.metrics.mask_metric import MaskMetric, check_masks

__all__ = ["FalseAlarmRateMetric", "compute_false_alarms"]

VALUES = ("rate", "area")


def _check_min_size(min_size: int) -> int:
    if isinstance(min_size, bool) or not isinstance(min_size, int) or min_size < 1:
        raise ConfigError(f"min_size must be a whole number of pixels, at least 1, got {min_size!r}.")
    return min_size


def compute_false_alarms(
    y_pred: Tensor, y: Tensor, *, min_size: int = 1, value: str = "rate", include_background: bool = False
) -> Tensor:
    """Whether something is predicted where there is nothing; NaN where there is something.

    Args:
        y_pred: predicted masks (B, C, H, W) or (B, C, X, Y, Z), binary.
        y: true masks, as ``y_pred``.
        min_size: from how many predicted pixels, all together, it is a false alarm.
        value: ``"rate"``: 1 for a false alarm, else 0. ``"area"``: the share of the image that is predicted, 0 where
            it is no false alarm.
        include_background: whether the first of several channels is measured.

    Returns:
        (B, C without the background), float32 in [0, 1]; NaN for each channel whose truth is not empty.

    Raises:
        ConfigError: When an option is none of these.
        DataError: When masks are not binary or differ in shape.

    Example:
        >>> pred, truth = torch.zeros(3, 1, 10, 10), torch.zeros(3, 1, 10, 10)
        >>> pred[1, :, 0, :5] = 1
        >>> truth[2, :, 0, 0] = 1
        >>> compute_false_alarms(pred, truth).flatten(), compute_false_alarms(pred, truth, value="area").flatten()
        (tensor([0., 1., nan]), tensor([0.0000, 0.0500,    nan]))
    """
    _check_min_size(min_size)
    check_choice("value", value, VALUES)
    pred, truth = (masks.flatten(2) for masks in check_masks(y_pred, y, include_background))
    count = pred.sum(-1)
    alarm = count >= min_size
    score = alarm.float() if value == "rate" else torch.where(alarm, count / pred.shape[-1], 0.0)
    return score.masked_fill(truth.any(-1), float("nan"))


class FalseAlarmRateMetric(MaskMetric):
    """Share of the images without object in which something is predicted; see :func:`compute_false_alarms`.

    Images with an object do not count. A set that has only such images has no rate: it is NaN, not the 0 of MONAI's
    reduction, which would read as no false alarm.

    Args:
        min_size: from how many predicted pixels, all together, it is a false alarm.
        value: ``"rate"``, or ``"area"`` for the mean share of the image that is predicted.
        include_background: whether the first of several channels is measured.
        reduction: one of MONAI's, over the values that are not NaN; NaN where all are.
        get_not_nans: whether ``aggregate`` also returns how many values were counted.

    Raises:
        ConfigError: When an option is none of these.

    Example:
        >>> metric = FalseAlarmRateMetric(min_size=2)
        >>> nothing, something = torch.zeros(1, 8, 8), torch.ones(1, 8, 8)
        >>> _ = metric([nothing, something, something], [nothing, nothing, something])
        >>> metric.aggregate()
        tensor([0.5000])
    """

    def __init__(
        self,
        min_size: int = 1,
        value: str = "rate",
        include_background: bool = False,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
    ) -> None:
        super().__init__(include_background, reduction, get_not_nans)
        self.min_size = _check_min_size(min_size)
        self.value = check_choice("value", value, VALUES)

    def _compute_tensor(self, y_pred: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
        return compute_false_alarms(
            y_pred, y, min_size=self.min_size, value=self.value, include_background=self.include_background
        )
