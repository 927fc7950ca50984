# SPDX-License-Identifier: Apache-2.0
"""Measures the classes of a mask: volume or area, and longest diameter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

from monai_sam2unet.dicom.segmentation_writer import check_mask
from monai_sam2unet.dicom.segments import Segment
from monai_sam2unet.dicom.volume import DicomVolume

__all__ = ["SegmentMeasurement", "feret_diameter", "measure"]


@dataclass(frozen=True)
class SegmentMeasurement:
    """Size of one segment; None stands for what its image does not tell.

    Args:
        number: of the segment.
        label: of the segment.
        voxels: how many pixels, of all slices, have its class.
        volume_ml: of a volume.
        area_mm2: of a single image whose spacing in the patient is known.
        area_pixels: of another single image.
        longest_diameter_mm: as :func:`feret_diameter`, of the slice where it is largest; None without any pixel.
        longest_diameter_pixels: the same where no spacing in the patient is known.
        slice: the slice, from 0, of the area and the diameter; of several frames without a place in the patient (cine)
            it is the one with the largest area. None without any pixel.
        spacing_source: what the spacing is known from, as :class:`monai_sam2unet.dicom.DicomVolume` has it.
    """

    number: int
    label: str
    voxels: int
    volume_ml: float | None = None
    area_mm2: float | None = None
    area_pixels: float | None = None
    longest_diameter_mm: float | None = None
    longest_diameter_pixels: float | None = None
    slice: int | None = None
    spacing_source: str = ""


def feret_diameter(region: NDArray, spacing: Sequence[float] = (1.0, 1.0)) -> float:
    """Longest distance between two points of a region's outline: its largest Feret diameter.

    The outline goes through the middles of the pixels' outer edges, as in skimage's ``feret_diameter_max``, so that one
    pixel is as long as it is, and not 0.

    Args:
        region: mask (rows, columns).
        spacing: distance between rows and between columns.

    Returns:
        The length, in units of the spacing; 0 without any pixel.

    Example:
        >>> feret_diameter(np.ones((1, 4)), spacing=(2.0, 0.5))
        2.5
    """
    region = np.asarray(region) > 0
    rows = np.flatnonzero(region.any(axis=1))
    if not len(rows):
        return 0.0
    # What lies between a row's ends is inside the hull.
    first, last = region[rows].argmax(axis=1), region.shape[1] - 1 - region[rows, ::-1].argmax(axis=1)
    shifts = ((first, 0, -0.5), (last, 0, 0.5), (first, -0.5, 0), (first, 0.5, 0), (last, -0.5, 0), (last, 0.5, 0))
    points = np.concatenate([np.stack([rows + down, ends + right], axis=1) for ends, down, right in shifts])
    points = points * np.asarray(spacing, dtype=np.float64)
    return float(pdist(points[ConvexHull(points).vertices]).max())


def measure(mask: NDArray, volume: DicomVolume, segments: Sequence[Segment]) -> list[SegmentMeasurement]:
    """Measure every segment of a mask.

    Several slices in the patient's space have a volume: the number of voxels times the volume of one, slices that were
    filled in among them. A single slice, and images without a place in the patient, have an area: in mm2 where
    PixelSpacing or the ultrasound regions tell the spacing, else in pixels; spacing at a detector is none.

    Args:
        mask: class indices (slices, rows, columns), uint8 or bool, 0 for background.
        volume: what it was made from, on the same grid.
        segments: one for each class.

    Returns:
        One for each segment, those without any pixel among them.

    Raises:
        ConfigError: When the mask is not on the volume's grid, or has a class that no segment describes.
    """
    check_mask(mask, volume, segments)
    mask = mask.astype(np.uint8, copy=False)
    found = find_objects(mask, max_label=len(segments))
    return [_measure(mask, box, volume, segment) for segment, box in zip(segments, found, strict=True)]


def _measure(
    mask: NDArray[np.uint8], box: tuple[slice, ...] | None, volume: DicomVolume, segment: Segment
) -> SegmentMeasurement:
    is_volume = volume.in_patient_space and len(mask) > 1
    in_mm = volume.is_calibrated
    rows, columns = volume.pixel_spacing if in_mm else (1.0, 1.0)
    counts, diameters, start = np.zeros(1, dtype=np.int64), np.zeros(1), None
    if box is not None:
        region = mask[box] == segment.number
        start = box[0].start
        counts = region.sum(axis=(1, 2), dtype=np.int64)
        diameters = np.array([feret_diameter(one, (rows, columns)) for one in region])
    shown = int(np.argmax(diameters if is_volume else counts))
    area, diameter = float(counts[shown] * rows * columns), None if box is None else float(diameters[shown])
    voxel_ml = float(abs(np.linalg.det(volume.affine[:3, :3]))) / 1000
    return SegmentMeasurement(
        number=segment.number,
        label=segment.label,
        voxels=int(counts.sum()),
        volume_ml=int(counts.sum()) * voxel_ml if is_volume else None,
        area_mm2=area if in_mm and not is_volume else None,
        area_pixels=None if in_mm or is_volume else area,
        longest_diameter_mm=diameter if in_mm else None,
        longest_diameter_pixels=None if in_mm else diameter,
        slice=None if start is None else start + shown,
        spacing_source=volume.spacing_source,
    )
