# SPDX-License-Identifier: Apache-2.0
"""DICOM images read with their geometry checked.

MONAI is imported, and the reader registered with it, when :class:`SAM2UNetDICOMReader` is first asked for: programs
that look through files do not wait for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from monai_sam2unet.dicom.catalogue import Catalogue, FoundSeries, catalogue
from monai_sam2unet.dicom.frame import Frame, frames_of
from monai_sam2unet.dicom.geometry import StackGeometry, stack_geometry
from monai_sam2unet.dicom.pixels import PixelReader
from monai_sam2unet.dicom.segmentation import DicomSegmentation, StoredSegment
from monai_sam2unet.dicom.series import Series, find_series, is_dicom, select_series
from monai_sam2unet.dicom.stack import choose_stack
from monai_sam2unet.dicom.volume import DicomGrid, DicomVolume, read_grid, read_volume

if TYPE_CHECKING:
    from monai_sam2unet.dicom.reader import SAM2UNetDICOMReader

__all__ = [
    "Catalogue",
    "DicomGrid",
    "DicomSegmentation",
    "DicomVolume",
    "FoundSeries",
    "Frame",
    "PixelReader",
    "SAM2UNetDICOMReader",
    "Series",
    "StackGeometry",
    "StoredSegment",
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


def __getattr__(name: str) -> Any:
    if name != "SAM2UNetDICOMReader":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from monai_sam2unet.dicom.reader import SAM2UNetDICOMReader

    return SAM2UNetDICOMReader
