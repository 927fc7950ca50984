# SPDX-License-Identifier: Apache-2.0
"""How a network is run on a batch, and on volumes; and how its result follows an annotator's marks."""

from monai_sam2unet.inferers.autocast_inferer import AutocastInferer
from monai_sam2unet.inferers.epistemic_score import UncertaintyMaps, epistemic_score
from monai_sam2unet.inferers.geodesic import geodesic_distances
from monai_sam2unet.inferers.interactive_refiner import InteractiveRefiner
from monai_sam2unet.inferers.mark import Mark, strokes
from monai_sam2unet.inferers.refiner_of_case import refiner_of_case
from monai_sam2unet.inferers.slice_stack import SliceTransform
from monai_sam2unet.inferers.slice_wise_inferer import SliceWiseInferer
from monai_sam2unet.inferers.uncertainty import normalised_entropy

__all__ = [
    "AutocastInferer",
    "InteractiveRefiner",
    "Mark",
    "SliceTransform",
    "SliceWiseInferer",
    "UncertaintyMaps",
    "epistemic_score",
    "geodesic_distances",
    "normalised_entropy",
    "refiner_of_case",
    "strokes",
]
