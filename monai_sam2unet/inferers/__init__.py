# SPDX-License-Identifier: Apache-2.0
"""How a network is run on a batch, and on volumes."""

from monai_sam2unet.inferers.autocast_inferer import AutocastInferer
from monai_sam2unet.inferers.epistemic_score import UncertaintyMaps, epistemic_score
from monai_sam2unet.inferers.slice_stack import SliceTransform
from monai_sam2unet.inferers.slice_wise_inferer import SliceWiseInferer
from monai_sam2unet.inferers.uncertainty import normalised_entropy

__all__ = [
    "AutocastInferer",
    "SliceTransform",
    "SliceWiseInferer",
    "UncertaintyMaps",
    "epistemic_score",
    "normalised_entropy",
]
