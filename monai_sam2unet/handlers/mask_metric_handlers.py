# SPDX-License-Identifier: Apache-2.0
"""Ignite handlers of the metrics of binary masks, as MONAI's own ``MeanDice`` is one of ``DiceMetric``.

Use them as ``_target_`` under ``key_val_metric`` and ``additional_metrics`` of an evaluator. Their options are those of
the metric, which says what they mean and which errors are raised, and two of MONAI's ``IgniteMetricHandler``:

- ``output_transform`` takes the engine's output to predictions and truth: two batches (B, C, H, W), or two lists of
  (C, H, W) whose sizes may differ. They compare binary masks.
- ``save_details`` puts one value for each image and channel, (N, C), into ``engine.state.metric_details``, where
  MONAI's ``MetricsSaver`` finds them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from monai.handlers import IgniteMetricHandler
from monai.utils import MetricReduction

from monai_sam2unet.metrics import (
    BoundaryFMeasureMetric,
    CenterlineDiceMetric,
    FalseAlarmRateMetric,
    HausdorffDistance95Metric,
    NormalizedSurfaceDiceMetric,
)

__all__ = [
    "BoundaryFMeasure",
    "CenterlineDice",
    "FalseAlarmRate",
    "HausdorffDistance95",
    "NormalizedSurfaceDice",
]


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


class CenterlineDice(IgniteMetricHandler):
    """clDice of vessels and other thin structures; see :class:`~monai_sam2unet.metrics.CenterlineDiceMetric`."""

    def __init__(
        self,
        one_empty: str = "zero",
        include_background: bool = False,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        output_transform: Callable[[Any], Any] = lambda x: x,
        save_details: bool = True,
    ) -> None:
        metric = CenterlineDiceMetric(one_empty=one_empty, include_background=include_background, reduction=reduction)
        super().__init__(metric, output_transform=output_transform, save_details=save_details)
