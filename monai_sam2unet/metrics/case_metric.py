# SPDX-License-Identifier: Apache-2.0
"""What all metrics of the package share: one score for each channel of each image, and MONAI's reductions of them."""

from __future__ import annotations

from typing import Any

import torch
from monai.metrics import CumulativeIterationMetric, do_metric_reduction
from monai.utils import MetricReduction
from torch import Tensor

from monai_sam2unet.errors import ConfigError, DataError

__all__ = ["CaseMetric", "check_beta2", "check_choice", "check_share", "reduce_scores"]

MEANS = (MetricReduction.MEAN, MetricReduction.MEAN_BATCH, MetricReduction.MEAN_CHANNEL)


def check_choice(name: str, value: str, allowed: tuple[str, ...]) -> str:
    """The value, if it is one of those allowed.

    Raises:
        ConfigError: When it is not.
    """
    if value not in allowed:
        raise ConfigError(f"{name} must be one of {', '.join(allowed)}, got {value!r}.")
    return value


def check_share(name: str, value: float) -> float:
    """The value, if it lies in [0, 1].

    Raises:
        ConfigError: When it does not.
    """
    if not 0 <= value <= 1:
        raise ConfigError(f"{name} must lie in [0, 1], got {value}.")
    return value


def check_beta2(beta2: float) -> float:
    """The weight of precision in an F-measure, if it is above 0 and finite.

    Raises:
        ConfigError: When it is not.
    """
    if not 0 < beta2 < float("inf"):
        raise ConfigError(f"beta2 must be above 0 and finite, got {beta2}.")
    return beta2


def reduce_scores(scores: Tensor, reduction: MetricReduction | str = MetricReduction.MEAN) -> tuple[Tensor, Tensor]:
    """MONAI's reduction over scores that are not NaN, except that a mean of none is NaN.

    MONAI gives 0 for it, which reads as the best or the worst of scores.

    Args:
        scores: (B, C); NaN where an image does not count.
        reduction: one of MONAI's :class:`~monai.utils.MetricReduction`; ``"mean"`` is the mean of each image's mean
            over its channels.

    Returns:
        As MONAI: the reduced scores, (1,) for the mean of all, else (C,), (B,) or (B, C), float32 unless the reduction
        is ``"none"``; and how many were counted.

    Example:
        >>> reduce_scores(torch.tensor([[float("nan")], [0.25]]))
        (tensor([0.2500]), tensor(1.))
        >>> reduce_scores(torch.tensor([[float("nan")]]))
        (tensor([nan]), tensor(0.))
    """
    reduced, counted = do_metric_reduction(scores.clone(), reduction)  # MONAI's writes into what it is given
    if MetricReduction(reduction) in MEANS:
        reduced = torch.where(counted > 0, reduced, float("nan"))
    return reduced, counted


class CaseMetric(CumulativeIterationMetric):
    """Base of metrics that give each channel of each image a score.

    Takes batches (B, C, H, W), or lists of channel-first images (C, H, W) whose sizes may differ. Under
    ``torch.distributed`` the scores of all processes are gathered before they are reduced.

    Args:
        reduction: over the scores that are not NaN, one of MONAI's; ``"mean"``, ``"mean_batch"`` (one value a
            channel), ``"none"`` and so on. See :func:`reduce_scores`.
        get_not_nans: whether ``aggregate`` also returns how many scores were counted.

    Raises:
        ConfigError: When there is no such reduction.
    """

    def __init__(
        self,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
    ) -> None:
        super().__init__()
        check_choice("reduction", str(reduction), tuple(str(r) for r in MetricReduction))
        self.reduction = reduction
        self.get_not_nans = get_not_nans

    def _compute_list(self, y_pred: Any, y: Any = None, **kwargs: Any) -> Any:
        # MONAI pairs what it finds and drops the rest of the longer list.
        if y is None or len(y_pred) != len(y):
            count = "none" if y is None else str(len(y))
            raise DataError(f"Each prediction needs its truth: got {len(y_pred)} predictions and {count} of truth.")
        return super()._compute_list(y_pred, y, **kwargs)

    def aggregate(self, reduction: MetricReduction | str | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Reduce the scores of all images so far, of all processes.

        Args:
            reduction: other than the one given at first.

        Returns:
            The reduced scores, see :func:`reduce_scores`; with ``get_not_nans`` also how many were counted.

        Raises:
            DataError: When nothing has been measured.
        """
        scores = self.get_buffer()
        if not isinstance(scores, Tensor):
            raise DataError("Nothing has been measured: call the metric with predictions and truth first.")
        reduced, counted = reduce_scores(scores, reduction or self.reduction)
        return (reduced, counted) if self.get_not_nans else reduced
