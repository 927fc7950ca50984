# SPDX-License-Identifier: Apache-2.0
"""Metrics on tensors: MONAI's where it has them, with what it leaves open decided, and those of the papers."""

from monai_sam2unet.metrics.balanced_error_rate import BalancedErrorRateMetric, compute_balanced_error_rate
from monai_sam2unet.metrics.boundary_f_measure import BoundaryFMeasureMetric, BoundaryScores, compute_boundary_scores
from monai_sam2unet.metrics.centerline_dice import CenterlineDiceMetric, compute_centerline_dice
from monai_sam2unet.metrics.dice_over_thresholds import DiceOverThresholdsMetric, compute_dice_over_thresholds
from monai_sam2unet.metrics.e_measure import EMeasureMetric, compute_e_measure
from monai_sam2unet.metrics.f_measure import FMeasureMetric, compute_f_measure
from monai_sam2unet.metrics.false_alarm_rate import FalseAlarmRateMetric, compute_false_alarms
from monai_sam2unet.metrics.hausdorff_distance import HausdorffDistance95Metric, compute_hausdorff_distance_95
from monai_sam2unet.metrics.iou_over_thresholds import IoUOverThresholdsMetric, compute_iou_over_thresholds
from monai_sam2unet.metrics.map_scores import MapScores, compute_map_scores
from monai_sam2unet.metrics.maps import to_eight_bit
from monai_sam2unet.metrics.mean_absolute_error import MeanAbsoluteErrorMetric, compute_mean_absolute_error
from monai_sam2unet.metrics.s_measure import SMeasureMetric, compute_s_measure
from monai_sam2unet.metrics.surface_dice import NormalizedSurfaceDiceMetric, compute_normalized_surface_dice
from monai_sam2unet.metrics.weighted_f_measure import WeightedFMeasureMetric, compute_weighted_f_measure

__all__ = [
    "BalancedErrorRateMetric",
    "BoundaryFMeasureMetric",
    "BoundaryScores",
    "CenterlineDiceMetric",
    "DiceOverThresholdsMetric",
    "EMeasureMetric",
    "FMeasureMetric",
    "FalseAlarmRateMetric",
    "HausdorffDistance95Metric",
    "IoUOverThresholdsMetric",
    "MapScores",
    "MeanAbsoluteErrorMetric",
    "NormalizedSurfaceDiceMetric",
    "SMeasureMetric",
    "WeightedFMeasureMetric",
    "compute_balanced_error_rate",
    "compute_boundary_scores",
    "compute_centerline_dice",
    "compute_dice_over_thresholds",
    "compute_e_measure",
    "compute_f_measure",
    "compute_false_alarms",
    "compute_hausdorff_distance_95",
    "compute_iou_over_thresholds",
    "compute_map_scores",
    "compute_mean_absolute_error",
    "compute_normalized_surface_dice",
    "compute_s_measure",
    "compute_weighted_f_measure",
    "to_eight_bit",
]
