# SPDX-License-Identifier: Apache-2.0
"""Ignite handlers, usable as ``_target_`` in a bundle's config, and the drawing and saving that they share."""

from monai_sam2unet.evaluation.overlay import draw_overlay
from monai_sam2unet.handlers.atomic_file import save_atomically
from monai_sam2unet.handlers.contact_sheet import write_contact_sheet
from monai_sam2unet.handlers.dice_of_classes import DiceOfClasses
from monai_sam2unet.handlers.epoch_seed import EpochSeed
from monai_sam2unet.handlers.evaluation_report import EvaluationReport
from monai_sam2unet.handlers.frozen_statistics import FrozenStatistics
from monai_sam2unet.handlers.gradient_clipper import GradientClipper
from monai_sam2unet.handlers.map_metric_handlers import (
    BalancedErrorRate,
    DiceOverThresholds,
    EMeasure,
    FMeasure,
    IoUOverThresholds,
    MeanAbsoluteError,
    SMeasure,
    WeightedFMeasure,
)
from monai_sam2unet.handlers.mask_metric_handlers import (
    BoundaryFMeasure,
    CenterlineDice,
    FalseAlarmRate,
    HausdorffDistance95,
    NormalizedSurfaceDice,
)
from monai_sam2unet.handlers.prediction_writer import PredictionWriter
from monai_sam2unet.handlers.progress_bar import ProgressBar
from monai_sam2unet.handlers.tensorboard_log import TensorBoardLog
from monai_sam2unet.handlers.training_checkpoint import TrainingCheckpoint
from monai_sam2unet.handlers.weight_average import WeightAverage

__all__ = [
    "BalancedErrorRate",
    "BoundaryFMeasure",
    "CenterlineDice",
    "DiceOfClasses",
    "DiceOverThresholds",
    "EMeasure",
    "EpochSeed",
    "EvaluationReport",
    "FMeasure",
    "FalseAlarmRate",
    "FrozenStatistics",
    "GradientClipper",
    "HausdorffDistance95",
    "IoUOverThresholds",
    "MeanAbsoluteError",
    "NormalizedSurfaceDice",
    "PredictionWriter",
    "ProgressBar",
    "SMeasure",
    "TensorBoardLog",
    "TrainingCheckpoint",
    "WeightAverage",
    "WeightedFMeasure",
    "draw_overlay",
    "save_atomically",
    "write_contact_sheet",
]
