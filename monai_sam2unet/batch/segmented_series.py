# SPDX-License-Identifier: Apache-2.0
"""A series with its final mask: what all kinds of output files are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from highdicom.seg import Segmentation
from numpy.typing import NDArray

from monai_sam2unet.dicom import DicomVolume
from monai_sam2unet.dicom.derived_object import Algorithm
from monai_sam2unet.dicom.measurements import SegmentMeasurement, measure_segments
from monai_sam2unet.dicom.segmentation_writer import segmentation
from monai_sam2unet.dicom.segments import Segment

__all__ = ["SegmentedSeries"]


@dataclass(frozen=True, eq=False)
class SegmentedSeries:
    """What is known of a series once it is segmented.

    Args:
        volume: values and headers as read.
        mask: class indices (slices, rows, columns), uint8, 0 for background.
        probabilities: (slices, rows, columns, segments), float32, without background; None where nothing needs them.
        segments: what the classes are.
        algorithm: the model.
        created: when the run began, so that a run that was broken off writes the same as one that was not.
        segmentation_type: of the DICOM Segmentation, see :func:`monai_sam2unet.dicom.segmentation_writer.segmentation`.
    """

    volume: DicomVolume
    mask: NDArray
    probabilities: NDArray | None
    segments: Sequence[Segment]
    algorithm: Algorithm
    created: datetime
    segmentation_type: str = "BINARY"

    @cached_property
    def segmentation(self) -> Segmentation:
        """The DICOM Segmentation, made once: reports refer to it.

        Raises:
            DataError: When the source does not allow one.
        """
        fractional = self.segmentation_type == "FRACTIONAL"
        return segmentation(
            self.probabilities if fractional and self.probabilities is not None else self.mask,
            self.volume,
            self.segments,
            self.algorithm,
            self.created,
            self.segmentation_type,
        )

    @cached_property
    def measurements(self) -> list[SegmentMeasurement]:
        """Sizes of the segments."""
        return measure_segments(self.mask, self.volume, self.segments)
