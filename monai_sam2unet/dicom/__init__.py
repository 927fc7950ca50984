# SPDX-License-Identifier: Apache-2.0
"""DICOM images read with their geometry checked."""

from monai_sam2unet.dicom.catalogue import Catalogue, FoundSeries, catalogue
from monai_sam2unet.dicom.frame import Frame, frames_of
from monai_sam2unet.dicom.geometry import StackGeometry, stack_geometry
from monai_sam2unet.dicom.pixels import PixelReader
from monai_sam2unet.dicom.reader import SAM2UNetDICOMReader
from monai_sam2unet.dicom.segmentation import DicomSegmentation, Segment
from monai_sam2unet.dicom.series import Series, find_series, is_dicom, select_series
from monai_sam2unet.dicom.stack import choose_stack
from monai_sam2unet.dicom.volume import DicomGrid, DicomVolume, read_grid, read_volume

__all__ = [
    "Catalogue",
    "DicomGrid",
    "DicomSegmentation",
    "DicomVolume",
    "FoundSeries",
    "Frame",
    "PixelReader",
    "SAM2UNetDICOMReader",
    "Segment",
    "Series",
    "StackGeometry",
    "catalogue",
    "choose_stack",
    "find_series",
    "frames_of",
    "is_dicom",
    "read_grid",
    "read_volume",
    "select_series",
    "stack_geometry",
]
