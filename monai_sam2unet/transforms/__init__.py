# SPDX-License-Identifier: Apache-2.0
"""Transforms as MONAI has them: an array version ``X`` and a dictionary version ``Xd``."""

from monai_sam2unet.transforms.anatomical_plane import PLANES, AnatomicalPlane
from monai_sam2unet.transforms.color_jitter import RandColorJitter, RandColorJitterd
from monai_sam2unet.transforms.finalise_segmentation import FinaliseSegmentation, FinaliseSegmentationd
from monai_sam2unet.transforms.fit_geometry import FitPlan
from monai_sam2unet.transforms.fit_to_size import FitToSize, FitToSized
from monai_sam2unet.transforms.hiera_input import HieraInput, HieraInputd
from monai_sam2unet.transforms.intensity_percentile import PercentileScale, PercentileScaled
from monai_sam2unet.transforms.intensity_voi import VOIWindow, VOIWindowd
from monai_sam2unet.transforms.intensity_window import CT_WINDOWS, CTWindow, CTWindowd
from monai_sam2unet.transforms.jpeg_compression import RandJPEGCompression, RandJPEGCompressiond
from monai_sam2unet.transforms.label_classes import LabelClasses
from monai_sam2unet.transforms.load_any_image import LoadAnyImage, LoadAnyImaged
from monai_sam2unet.transforms.load_label_classes import LoadLabelClassesd
from monai_sam2unet.transforms.match_orientation import MatchOrientation, MatchOrientationd
from monai_sam2unet.transforms.modality import MODALITIES, Modality
from monai_sam2unet.transforms.normalize_as_imagenet import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    NormalizeAsImageNet,
    NormalizeAsImageNetd,
)
from monai_sam2unet.transforms.preset import Preset
from monai_sam2unet.transforms.scale_by_bits import ScaleByBits, ScaleByBitsd
from monai_sam2unet.transforms.slice_sequence import SliceItem, SliceSequence
from monai_sam2unet.transforms.volume_grid import volume_grid
from monai_sam2unet.transforms.volume_to_slices import VolumeToSlices, VolumeToSlicesd

__all__ = [
    "CT_WINDOWS",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "MODALITIES",
    "PLANES",
    "AnatomicalPlane",
    "CTWindow",
    "CTWindowd",
    "FinaliseSegmentation",
    "FinaliseSegmentationd",
    "FitPlan",
    "FitToSize",
    "FitToSized",
    "HieraInput",
    "HieraInputd",
    "LabelClasses",
    "LoadAnyImage",
    "LoadAnyImaged",
    "LoadLabelClassesd",
    "MatchOrientation",
    "MatchOrientationd",
    "Modality",
    "NormalizeAsImageNet",
    "NormalizeAsImageNetd",
    "PercentileScale",
    "PercentileScaled",
    "Preset",
    "RandColorJitter",
    "RandColorJitterd",
    "RandJPEGCompression",
    "RandJPEGCompressiond",
    "ScaleByBits",
    "ScaleByBitsd",
    "SliceItem",
    "SliceSequence",
    "VOIWindow",
    "VOIWindowd",
    "VolumeToSlices",
    "VolumeToSlicesd",
    "volume_grid",
]
