# SPDX-License-Identifier: Apache-2.0
"""Ignite handlers of this project's metrics, as MONAI's own ``MeanDice`` is one of ``DiceMetric``.

Use them as ``_target_`` under ``key_val_metric`` and ``additional_metrics`` of an evaluator. Their options are those of
the metric, which says what they mean and which errors are raised, and two of MONAI's ``IgniteMetricHandler``:

- ``output_transform`` takes the engine's output to predictions and truth: two batches (B, C, H, W), or two lists of
  (C, H, W) whose sizes may differ. HD95, surface Dice, false alarms and boundary F compare binary masks, the others
  probabilities with masks.
- ``save_details`` puts one value for each image and channel, (N, C), into ``engine.state.metric_details``, where
  MONAI's ``MetricsSaver`` finds them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from monai.handlers import IgniteMetricHandler
from monai.utils import MetricReduction

from monai_sam2unet.metrics import (
    BalancedErrorRateMetric,
    BoundaryFMeasureMetric,
    DiceOverThresholdsMetric,
    EMeasureMetric,
    FalseAlarmRateMetric,
    FMeasureMetric,
    HausdorffDistance95Metric,
    IoUOverThresholdsMetric,
    MeanAbsoluteErrorMetric,
    NormalizedSurfaceDiceMetric,
    SMeasureMetric,
    WeightedFMeasureMetric,
)
from monai_sam2unet.metrics.empty_truth import EmptyTruth
from monai_sam2unet.metrics.map_metric import Mode

__all__ = [
    "BalancedErrorRate",
    "BoundaryFMeasure",
    "DiceOverThresholds",
    "EMeasure",
    "FMeasure",
    "FalseAlarmRate",
    "HausdorffDistance95",
    "IoUOverThresholds",
    "MeanAbsoluteError",
    "NormalizedSurfaceDice",
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


class HausdorffDistance95(IgniteMetricHandler):
    """HD95; see :class:`~monai_sam2unet.metrics.HausdorffDistance95Metric`."""

    def __init__(
        self,
        unit: str = "mm",
        one_empty: str = "diagonal",
        include_background: bool = False,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        output_transform: Callable[[Any], Any] = lambda x: x,
        save_details: bool = True,
    ) -> None:
        metric = HausdorffDistance95Metric(
            unit=unit, one_empty=one_empty, include_background=include_background, reduction=reduction
        )
        super().__init__(metric, output_transform=output_transform, save_details=save_details)


class NormalizedSurfaceDice(IgniteMetricHandler):
    """Normalised surface Dice at a tolerance; see :class:`~monai_sam2unet.metrics.NormalizedSurfaceDiceMetric`."""

    def __init__(
        self,
        tolerance: float | Sequence[float],
        unit: str = "mm",
        one_empty: str = "zero",
        include_background: bool = False,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        output_transform: Callable[[Any], Any] = lambda x: x,
        save_details: bool = True,
    ) -> None:
        metric = NormalizedSurfaceDiceMetric(
            tolerance=tolerance,
            unit=unit,
            one_empty=one_empty,
            include_background=include_background,
            reduction=reduction,
        )
        super().__init__(metric, output_transform=output_transform, save_details=save_details)


class FalseAlarmRate(IgniteMetricHandler):
    """False alarms in images without object; see :class:`~monai_sam2unet.metrics.FalseAlarmRateMetric`."""

    def __init__(
        self,
        min_size: int = 1,
        value: str = "rate",
        include_background: bool = False,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        output_transform: Callable[[Any], Any] = lambda x: x,
        save_details: bool = True,
    ) -> None:
        metric = FalseAlarmRateMetric(
            min_size=min_size, value=value, include_background=include_background, reduction=reduction
        )
        super().__init__(metric, output_transform=output_transform, save_details=save_details)


class BoundaryFMeasure(IgniteMetricHandler):
    """Boundary F-measure within a tolerance; see :class:`~monai_sam2unet.metrics.BoundaryFMeasureMetric`."""

    def __init__(
        self,
        tolerance: float = 0.008,
        unit: str = "diagonal",
        one_empty: str = "zero",
        include_background: bool = False,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        output_transform: Callable[[Any], Any] = lambda x: x,
        save_details: bool = True,
    ) -> None:
        metric = BoundaryFMeasureMetric(
            tolerance=tolerance,
            unit=unit,
            one_empty=one_empty,
            include_background=include_background,
            reduction=reduction,
        )
        super().__init__(metric, output_transform=output_transform, save_details=save_details)
