# SPDX-License-Identifier: Apache-2.0
"""Makes DICOM Segmentations of masks."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from datetime import datetime

import numpy as np
from highdicom.seg import Segmentation
from numpy.typing import NDArray

from monai_sam2unet.dicom.derived_object import (
    LONG_TEXT,
    Algorithm,
    derived_identity,
    settle,
    source_frames,
)
from monai_sam2unet.dicom.segments import Segment
from monai_sam2unet.dicom.source_references import refer_to_source, stand_ins, take_place_away
from monai_sam2unet.dicom.volume import DicomVolume
from monai_sam2unet.errors import ConfigError, DataError

__all__ = ["SEGMENTATION_TYPES", "check_mask", "segmentation"]

SEGMENTATION_TYPES = ("BINARY", "FRACTIONAL", "LABELMAP")
#: Of MANUAL segments no algorithm is named.
ALGORITHM_TYPES = ("AUTOMATIC", "SEMIAUTOMATIC")
MAX_FRACTION = 255


def check_mask(mask: NDArray, volume: DicomVolume, segments: Sequence[Segment]) -> None:
    """Make sure that class indices are on a volume's grid, and described.

    Args:
        mask: class indices (slices, rows, columns), uint8, or bool for one class; 0 is background.
        volume: the source.
        segments: one for each class.

    Raises:
        ConfigError: When the mask has another shape or type, has a class that no segment describes, or the segments'
            numbers are not 1, 2, 3, ...
    """
    if [segment.number for segment in segments] != list(range(1, len(segments) + 1)):
        raise ConfigError(f"Segments are numbered 1, 2, 3, ..., got {[segment.number for segment in segments]}.")
    if mask.dtype not in (np.uint8, np.bool_) or mask.shape != volume.pixels.shape[:3]:
        raise ConfigError(
            f"The mask must be uint8 or bool of the volume's shape {volume.pixels.shape[:3]}, got {mask.dtype} of "
            f"{mask.shape}."
        )
    if mask.max(initial=0) > len(segments):
        raise ConfigError(f"The mask holds class {mask.max()}; {len(segments)} classes are described.")


def _check_probabilities(mask: NDArray, volume: DicomVolume, segments: Sequence[Segment]) -> None:
    wanted = (*volume.pixels.shape[:3], len(segments))
    if mask.dtype.kind != "f" or mask.shape != wanted:
        raise ConfigError(
            f"FRACTIONAL takes probabilities of floating point, of shape {wanted}: slices, rows, columns, segments "
            f"without background; got {mask.dtype} of {mask.shape}."
        )
    # NaN is in no range.
    if mask.size and not (mask.min() >= 0 and mask.max() <= 1):
        raise DataError(f"Probabilities must be of 0 to 1, got {mask.min()} to {mask.max()}.")


def segmentation(
    mask: NDArray,
    volume: DicomVolume,
    segments: Sequence[Segment],
    algorithm: Algorithm,
    created: datetime,
    type: str = "BINARY",
    algorithm_type: str = "AUTOMATIC",
) -> Segmentation:
    """Make a DICOM Segmentation of a mask.

    Frames without any class are left out. A mask without any class at all becomes an object with one frame for each
    segment, of the middle slice, in which nothing is marked: a receiver sees that the series was looked at, and what
    for. Slices that were filled in have no image, so they are left out, with a warning.

    Images without a place in the patient (radiographs, ultrasound, endoscopy) have a segmentation without one, which
    refers to them pixel by pixel; the frames of a cine are numbered (PS3.3 C.7.6.16.2.2, In-Stack Position Number).

    UIDs follow from the source, the model and the mask, so that a repeated run makes the identical object.

    Args:
        mask: class indices (slices, rows, columns), uint8 or bool, 0 for background; for ``FRACTIONAL`` probabilities
            (slices, rows, columns, segments), 0 to 1, without background.
        volume: what it was made from, on the same grid.
        segments: one for each class.
        algorithm: the model that made it.
        created: when it was made.
        type: ``BINARY``; ``FRACTIONAL``: probabilities, in 255 steps; ``LABELMAP``: class indices, a newer kind of
            object that not every PACS takes.
        algorithm_type: ``AUTOMATIC``, or ``SEMIAUTOMATIC`` where somebody has corrected what the model made.

    Returns:
        The object, in Explicit VR Little Endian, to be saved with ``save_as``.

    Raises:
        ConfigError: When a type is not known, or the mask does not go with it, the volume or the segments.
        DataError: When probabilities are not of 0 to 1, the source cannot be referred to, or it does not allow a
            segmentation.
    """
    if type not in SEGMENTATION_TYPES:
        raise ConfigError(f"The type of segmentation must be one of {', '.join(SEGMENTATION_TYPES)}, got {type!r}.")
    if algorithm_type not in ALGORITHM_TYPES:
        raise ConfigError(f"The algorithm's type must be one of {', '.join(ALGORITHM_TYPES)}, got {algorithm_type!r}.")
    if type == "FRACTIONAL":
        _check_probabilities(mask, volume, segments)
    else:
        check_mask(mask, volume, segments)
    slots = [slot for slot, frame in enumerate(volume.frames) if frame is not None]
    frames = source_frames(volume)
    if len(slots) < len(mask):
        warnings.warn(
            f"{len(mask) - len(slots)} slices of {volume.series} were filled in. They have no image to refer to, so "
            "the segmentation leaves them out.",
            stacklevel=2,
        )
    marked = mask[slots] > 0.5 / MAX_FRACTION if type == "FRACTIONAL" else mask[slots]
    used = frames
    if not marked.any():
        middle = len(slots) // 2
        slots, used = slots[middle : middle + 1], frames[middle : middle + 1]
    # As it is stored: digits beyond that differ from one machine, or one batch, to another.
    stored = np.rint(mask * MAX_FRACTION).astype(np.uint8) if type == "FRACTIONAL" else mask
    # What is corrected is another object, should nothing have changed.
    corrected = "" if algorithm_type == "AUTOMATIC" else f" {algorithm_type}"
    details = f"{type} {list(segments)}{corrected}"
    identity = derived_identity("SEG", volume, algorithm, stored, created, details=details)
    try:
        made = Segmentation(
            source_images=stand_ins(volume, used),
            pixel_array=mask[slots].astype(np.float32 if type == "FRACTIONAL" else np.uint8, copy=False),
            segmentation_type=type,
            segment_descriptions=[
                segment.as_description(algorithm.identification, algorithm_type) for segment in segments
            ],
            instance_number=1,
            max_fractional_value=MAX_FRACTION,
            omit_empty_frames=used is frames,
            content_label="SEGMENTATION",
            content_description=f"{algorithm.name}"[:LONG_TEXT],
            **identity.arguments(algorithm, created, "Segmentation"),
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        if isinstance(error, DataError | ConfigError):
            raise
        raise DataError(f"No DICOM segmentation can be made for {volume.series}: {error}") from error
    made.ContentCreatorName = None
    if not volume.in_patient_space:
        made.PatientOrientation = frames[0].dataset.get("PatientOrientation")
    if not volume.in_patient_space and len(used) > 1:
        take_place_away(made, used)
    refer_to_source(made, frames, used)
    settle(made, identity, created)
    return made
