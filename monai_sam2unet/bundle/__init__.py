# SPDX-License-Identifier: Apache-2.0
"""What the bundles' configs call."""

from monai_sam2unet.bundle.bundle_config import BundleConfig
from monai_sam2unet.bundle.bundle_predictor import BundlePredictor
from monai_sam2unet.bundle.checkpoint import load_checkpoint
from monai_sam2unet.bundle.datalists import (
    evaluation_datalist,
    fail_on_rejected,
    inference_datalist,
    training_datalist,
)
from monai_sam2unet.bundle.ensemble import load_ensemble
from monai_sam2unet.bundle.inference_form import optimize_network
from monai_sam2unet.bundle.known_cases import refuse_known_cases
from monai_sam2unet.bundle.known_settings import warn_of_other_settings
from monai_sam2unet.bundle.multi_scale import PrepareBatchMultiScale
from monai_sam2unet.bundle.optimisation import cosine_schedule, distribute, trained_parameters
from monai_sam2unet.bundle.start import (
    check_light_checkpoints,
    default_device,
    finish_distributed,
    start,
    start_distributed,
)
from monai_sam2unet.bundle.volume_check import check_volumes
from monai_sam2unet.bundle.volume_datalists import (
    volume_evaluation_datalist,
    volume_slices,
    volume_training_datalist,
)
from monai_sam2unet.bundle.volume_inference import volume_inference_datalist

__all__ = [
    "BundleConfig",
    "BundlePredictor",
    "PrepareBatchMultiScale",
    "check_light_checkpoints",
    "check_volumes",
    "cosine_schedule",
    "default_device",
    "distribute",
    "evaluation_datalist",
    "fail_on_rejected",
    "finish_distributed",
    "inference_datalist",
    "load_checkpoint",
    "load_ensemble",
    "optimize_network",
    "refuse_known_cases",
    "start",
    "start_distributed",
    "trained_parameters",
    "training_datalist",
    "volume_evaluation_datalist",
    "volume_inference_datalist",
    "volume_slices",
    "volume_training_datalist",
    "warn_of_other_settings",
]
