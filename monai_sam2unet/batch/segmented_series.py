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
from monai_sam2unet.dicom.measurements import SegmentMeasurement, measure
from monai_sam2unet.dicom.segmentation_writer import segmentation
from monai_sam2unet.dicom.segments import Segment

__all__ = ["Model", "SegmentedSeries"]


@dataclass(frozen=True)
class Model:
    """What all series of a run are segmented with.

    Args:
        segments: what the classes are.
        algorithm: the network.
        created: when the run began, so that a run that was broken off writes the same as one that was not.
        segmentation_type: of the DICOM Segmentations, see
            :func:`monai_sam2unet.dicom.segmentation_writer.segmentation`.
        secret: DICOM objects are de-identified with it, see :func:`monai_sam2unet.dicom.deidentification.deidentified`;
            empty to leave the patient in them.
    """

    segments: Sequence[Segment]
    algorithm: Algorithm
    created: datetime
    segmentation_type: str = "BINARY"
    secret: str = ""


@dataclass(frozen=True, eq=False)
class SegmentedSeries:
    """What is known of a series once it is segmented.

    Args:
        volume: values and headers as read.
        mask: class indices (slices, rows, columns), uint8, 0 for background.
        model: what made it.
        probabilities: (slices, rows, columns, segments), float32, without background, where the type of segmentation
            needs them.
    """

    volume: DicomVolume
    mask: NDArray
    model: Model
    probabilities: NDArray | None = None

    @cached_property
    def segmentation(self) -> Segmentation:
        """The DICOM Segmentation, made once: reports refer to it.

        Raises:
            DataError: When the source does not allow one.
        """
        model, values = self.model, self.mask if self.probabilities is None else self.probabilities
        return segmentation(
            values, self.volume, model.segments, model.algorithm, model.created, model.segmentation_type
        )

    @cached_property
    def measurements(self) -> list[SegmentMeasurement]:
        """Sizes of the segments."""
        return measure(self.mask, self.volume, self.model.segments)
