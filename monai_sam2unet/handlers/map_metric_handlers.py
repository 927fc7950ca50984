# SPDX-License-Identifier: Apache-2.0
"""Ignite handlers of the metrics of prediction maps, as MONAI's own ``MeanDice`` is one of ``DiceMetric``.

Use them as ``_target_`` under ``key_val_metric`` and ``additional_metrics`` of an evaluator. Their options are those of
the metric, which says what they mean and which errors are raised, and two of MONAI's ``IgniteMetricHandler``:

- ``output_transform`` takes the engine's output to predictions and truth: two batches (B, C, H, W), or two lists of
  (C, H, W) whose sizes may differ. They compare probabilities with masks.
- ``save_details`` puts one value for each image and channel, (N, C), into ``engine.state.metric_details``, where
  MONAI's ``MetricsSaver`` finds them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from monai.handlers import IgniteMetricHandler
from monai.utils import MetricReduction

from monai_sam2unet.metrics import (
    BalancedErrorRateMetric,
    DiceOverThresholdsMetric,
    EMeasureMetric,
    FMeasureMetric,
    IoUOverThresholdsMetric,
    MeanAbsoluteErrorMetric,
    SMeasureMetric,
    WeightedFMeasureMetric,
)
from monai_sam2unet.metrics.empty_truth import EmptyTruth
from monai_sam2unet.metrics.map_metric import Mode

__all__ = [
    "BalancedErrorRate",
    "DiceOverThresholds",
    "EMeasure",
    "FMeasure",
    "IoUOverThresholds",
    "MeanAbsoluteError",
    "SMeasure",
    "WeightedFMeasure",
]


class SMeasure(IgniteMetricHandler):
    """S-measure; see :class:`~monai_sam2unet.metrics.SMeasureMetric`."""

    def __init__(
        self,
        alpha: float = 0.5,
        empty_truth: EmptyTruth = "score",
        normalize: bool = True,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        output_transform: Callable[[Any], Any] = lambda x: x,
        save_details: bool = True,
    ) -> None:
        metric = SMeasureMetric(alpha=alpha, empty_truth=empty_truth, normalize=normalize, reduction=reduction)
        super().__init__(metric, output_transform=output_transform, save_details=save_details)


class EMeasure(IgniteMetricHandler):
    """E-measure; see :class:`~monai_sam2unet.metrics.EMeasureMetric`."""

    def __init__(
        self,
        mode: Mode = "mean",
        threshold: float = 0.5,
        empty_truth: EmptyTruth = "score",
        normalize: bool = True,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        output_transform: Callable[[Any], Any] = lambda x: x,
        save_details: bool = True,
    ) -> None:
        metric = EMeasureMetric(
            mode=mode, threshold=threshold, empty_truth=empty_truth, normalize=normalize, reduction=reduction
        )
        super().__init__(metric, output_transform=output_transform, save_details=save_details)


class WeightedFMeasure(IgniteMetricHandler):
    """Weighted F-measure; see :class:`~monai_sam2unet.metrics.WeightedFMeasureMetric`."""

    def __init__(
        self,
        beta2: float = 1.0,
        empty_truth: EmptyTruth = 0,
        normalize: bool = True,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        output_transform: Callable[[Any], Any] = lambda x: x,
        save_details: bool = True,
    ) -> None:
        metric = WeightedFMeasureMetric(beta2=beta2, empty_truth=empty_truth, normalize=normalize, reduction=reduction)
        super().__init__(metric, output_transform=output_transform, save_details=save_details)


class FMeasure(IgniteMetricHandler):
    """F-measure; see :class:`~monai_sam2unet.metrics.FMeasureMetric`."""

    def __init__(
        self,
        beta2: float = 0.3,
        mode: Mode = "mean",
        threshold: float = 0.5,
        empty_truth: EmptyTruth = 0,
        normalize: bool = True,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        output_transform: Callable[[Any], Any] = lambda x: x,
        save_details: bool = True,
    ) -> None:
        metric = FMeasureMetric(
            beta2=beta2,
            mode=mode,
            threshold=threshold,
            empty_truth=empty_truth,
            normalize=normalize,
            reduction=reduction,
        )
        super().__init__(metric, output_transform=output_transform, save_details=save_details)


class MeanAbsoluteError(IgniteMetricHandler):
    """Mean absolute error; see :class:`~monai_sam2unet.metrics.MeanAbsoluteErrorMetric`."""

    def __init__(
        self,
        empty_truth: EmptyTruth = "score",
        normalize: bool = True,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        output_transform: Callable[[Any], Any] = lambda x: x,
        save_details: bool = True,
    ) -> None:
        metric = MeanAbsoluteErrorMetric(empty_truth=empty_truth, normalize=normalize, reduction=reduction)
        super().__init__(metric, output_transform=output_transform, save_details=save_details)


class DiceOverThresholds(IgniteMetricHandler):
    """Dice over thresholds (the papers' mDice); see :class:`~monai_sam2unet.metrics.DiceOverThresholdsMetric`."""

    def __init__(
        self,
        mode: Mode = "mean",
        threshold: float = 0.5,
        empty_truth: EmptyTruth = 0,
        normalize: bool = True,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        output_transform: Callable[[Any], Any] = lambda x: x,
        save_details: bool = True,
    ) -> None:
        metric = DiceOverThresholdsMetric(
            mode=mode, threshold=threshold, empty_truth=empty_truth, normalize=normalize, reduction=reduction
        )
        super().__init__(metric, output_transform=output_transform, save_details=save_details)


class IoUOverThresholds(IgniteMetricHandler):
    """IoU over thresholds (the papers' mIoU); see :class:`~monai_sam2unet.metrics.IoUOverThresholdsMetric`."""

    def __init__(
        self,
        mode: Mode = "mean",
        threshold: float = 0.5,
        empty_truth: EmptyTruth = 0,
        normalize: bool = True,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        output_transform: Callable[[Any], Any] = lambda x: x,
        save_details: bool = True,
    ) -> None:
        metric = IoUOverThresholdsMetric(
            mode=mode, threshold=threshold, empty_truth=empty_truth, normalize=normalize, reduction=reduction
        )
        super().__init__(metric, output_transform=output_transform, save_details=save_details)


class BalancedErrorRate(IgniteMetricHandler):
    """Balanced error rate; see :class:`~monai_sam2unet.metrics.BalancedErrorRateMetric`."""

    def __init__(
        self,
        mode: Mode = "fixed",
        threshold: float = 0.5,
        empty_truth: EmptyTruth = 0,
        normalize: bool = True,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        output_transform: Callable[[Any], Any] = lambda x: x,
        save_details: bool = True,
    ) -> None:
        metric = BalancedErrorRateMetric(
            mode=mode, threshold=threshold, empty_truth=empty_truth, normalize=normalize, reduction=reduction
        )
        super().__init__(metric, output_transform=output_transform, save_details=save_details)
