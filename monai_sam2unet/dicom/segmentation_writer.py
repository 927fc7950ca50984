# SPDX-License-Identifier: Apache-2.0
"""Makes DICOM Segmentations of masks."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from datetime import datetime

import numpy as np
from highdicom.seg import Segmentation
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import UID, CTImageStorage, SecondaryCaptureImageStorage, generate_uid

from monai_sam2unet.dicom.derived_object import (
    LONG_TEXT,
    Algorithm,
    derived_identity,
    patient_and_study,
    settle,
    source_frames,
)
from monai_sam2unet.dicom.frame import Frame, reading
from monai_sam2unet.dicom.segments import Segment
from monai_sam2unet.dicom.volume import DicomVolume
from monai_sam2unet.errors import ConfigError, DataError

__all__ = ["SEGMENTATION_TYPES", "check_mask", "segmentation", "source_references"]

SEGMENTATION_TYPES = ("BINARY", "FRACTIONAL", "LABELMAP")
#: Of frames without a place in the patient, while the object is made.
NO_ORIENTATION = [1, 0, 0, 0, 1, 0]
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


def source_references(frames: Sequence[Frame]) -> list[Dataset]:
    """References to the images that hold frames, each image once.

    Args:
        frames: of one series.

    Returns:
        Items of a Source Image Sequence; frames are numbered where not all of an image's are meant.
    """
    numbers: dict[str, list[int]] = {}
    images: dict[str, Frame] = {}
    for frame in frames:
        uid = str(frame.dataset.SOPInstanceUID)
        images.setdefault(uid, frame)
        if frame.index is not None:
            numbers.setdefault(uid, []).append(frame.index + 1)
    items = []
    for uid, frame in images.items():
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = frame.dataset.SOPClassUID, uid
        if uid in numbers and len(numbers[uid]) < int(frame.dataset.get("NumberOfFrames") or 1):
            item.ReferencedFrameNumber = sorted(numbers[uid])
        items.append(item)
    return items


def _stand_ins(volume: DicomVolume, frames: Sequence[Frame]) -> list[Dataset]:
    """What highdicom is shown of the source: each frame as an image of its own, under its number as UID.

    It takes either single-frame images or one enhanced one of which all frames are segmented, nothing else.
    """
    common = patient_and_study(frames[0])
    first, stands = frames[0], []
    common.SeriesInstanceUID = first.dataset.SeriesInstanceUID
    common.Modality = volume.series.modality or "OT"
    common.Rows, common.Columns = first.shape
    common.SOPClassUID = CTImageStorage if volume.in_patient_space or len(frames) > 1 else SecondaryCaptureImageStorage
    with reading(first):
        for keyword in ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            if first.dataset.get(keyword):
                setattr(common, keyword, first.dataset.get(keyword))
    if volume.in_patient_space:
        common.FrameOfReferenceUID = _frame_of_reference(first)
        common.ImageOrientationPatient = first.attributes.ImageOrientationPatient
        common.PixelSpacing = first.attributes.PixelSpacing
        thickness = first.numbers("SliceThickness", 1)
        step = float(abs(first.normal * (-1, -1, 1) @ volume.affine[:3, 2]))
        common.SliceThickness = f"{step if thickness is None or thickness[0] <= 0 else thickness[0]:.10g}"
    for number, frame in enumerate(frames):
        stand = Dataset()
        stand.update(common)
        stand.SOPInstanceUID = UID(f"2.25.{number + 1}")
        if volume.in_patient_space:
            stand.ImagePositionPatient = frame.attributes.ImagePositionPatient
        elif len(frames) > 1:
            stand.FrameOfReferenceUID, stand.ImageOrientationPatient = UID("2.25.1"), NO_ORIENTATION
            # highdicom orders positions against the normal's direction.
            stand.ImagePositionPatient, stand.SliceThickness = [0, 0, -number], 1
            stand.PixelSpacing = [1, 1]
        stands.append(stand)
    return stands


def _frame_of_reference(frame: Frame) -> UID:
    if frame.frame_of_reference:
        return UID(frame.frame_of_reference)
    warnings.warn(
        f"{frame} has no FrameOfReferenceUID; the objects made from its series share a new one.", stacklevel=2
    )
    return generate_uid(entropy_srcs=["frame of reference", str(frame.dataset.SeriesInstanceUID)])


def _refer_to_source(made: Segmentation, frames: Sequence[Frame], used: Sequence[Frame]) -> None:
    """Replace the stand-ins' UIDs by those of the source, and refer to all of it."""
    groups = (*made.PerFrameFunctionalGroupsSequence, *made.SharedFunctionalGroupsSequence)
    derivations = [item for group in groups for item in group.get("DerivationImageSequence") or ()]
    # Frames of several segments share the item of the image they lie on.
    for source in {id(item): item for derivation in derivations for item in derivation.SourceImageSequence}.values():
        frame = used[int(source.ReferencedSOPInstanceUID.rpartition(".")[2]) - 1]
        source.ReferencedSOPClassUID = frame.dataset.SOPClassUID
        source.ReferencedSOPInstanceUID = frame.dataset.SOPInstanceUID
        if frame.index is not None:
            source.ReferencedFrameNumber = frame.index + 1
    made.SourceImageSequence = source_references(frames)
    series = Dataset()
    series.SeriesInstanceUID = frames[0].dataset.SeriesInstanceUID
    series.ReferencedInstanceSequence = source_references(frames)
    for item in series.ReferencedInstanceSequence:
        item.pop("ReferencedFrameNumber", None)
    made.ReferencedSeriesSequence = [series]


def _take_place_away(made: Segmentation, used: Sequence[Frame]) -> None:
    """Number frames that have no place in the patient (cine), instead of placing them."""
    for keyword in ("FrameOfReferenceUID", "PositionReferenceIndicator", "DimensionOrganizationType"):
        made.pop(keyword, None)
    shared = made.SharedFunctionalGroupsSequence[0]
    # Pixel measures need a slice thickness, which there is none of.
    del shared.PlaneOrientationSequence, shared.PixelMeasuresSequence
    dimensions = [index.DimensionIndexPointer for index in made.DimensionIndexSequence]
    place = dimensions.index(Tag("ImagePositionPatient"))
    for item in made.PerFrameFunctionalGroupsSequence:
        content = item.FrameContentSequence[0]
        number = used[-round(float(item.PlanePositionSequence[0].ImagePositionPatient[2]))].index or 0
        values = np.atleast_1d(content.DimensionIndexValues).tolist()
        values[place] = number + 1
        content.StackID, content.InStackPositionNumber, content.DimensionIndexValues = "1", number + 1, values
        del item.PlanePositionSequence
    index = made.DimensionIndexSequence[place]
    index.DimensionIndexPointer, index.FunctionalGroupPointer = (
        Tag("InStackPositionNumber"),
        Tag("FrameContentSequence"),
    )
    index.DimensionDescriptionLabel = "In-Stack Position Number"


def segmentation(
    mask: NDArray,
    volume: DicomVolume,
    segments: Sequence[Segment],
    algorithm: Algorithm,
    created: datetime,
    type: str = "BINARY",
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
        type: ``BINARY``; ``FRACTIONAL``: probabilities, in 255 steps; ``LABELMAP``: class indices, a newer kind of object
            that not every PACS takes.

    Returns:
        The object, in Explicit VR Little Endian, to be saved with ``save_as``.

    Raises:
        ConfigError: When the type is not known, or the mask does not go with it, the volume or the segments.
        DataError: When probabilities are not of 0 to 1, the source cannot be referred to, or it does not allow a
            segmentation.
    """
    if type not in SEGMENTATION_TYPES:
        raise ConfigError(f"The type of segmentation must be one of {', '.join(SEGMENTATION_TYPES)}, got {type!r}.")
    if type == "FRACTIONAL":
        _check_probabilities(mask, volume, segments)
    else:
        check_mask(mask, volume, segments)
    slots = [slot for slot, frame in enumerate(volume.frames) if frame is not None]
    frames = source_frames(volume)
    if len(slots) < len(mask):
        warnings.warn(
            f"{len(mask) - len(slots)} slices of {volume.series} were filled in. They have no image to refer to, so the "
            "segmentation leaves them out.",
            stacklevel=2,
        )
    marked = mask[slots] >= 0.5 / MAX_FRACTION if type == "FRACTIONAL" else mask[slots]
    used = frames
    if not marked.any():
        middle = len(slots) // 2
        slots, used = slots[middle : middle + 1], frames[middle : middle + 1]
    identity = derived_identity("SEG", volume, algorithm, mask)
    try:
        made = Segmentation(
            source_images=_stand_ins(volume, used),
            pixel_array=mask[slots].astype(np.float32 if type == "FRACTIONAL" else np.uint8, copy=False),
            segmentation_type=type,
            segment_descriptions=[segment.as_description(algorithm.identification) for segment in segments],
            series_instance_uid=identity.series_uid,
            series_number=identity.series_number,
            sop_instance_uid=identity.instance_uid,
            instance_number=1,
            max_fractional_value=MAX_FRACTION,
            omit_empty_frames=used is frames,
            content_label="SEGMENTATION",
            content_description=f"{algorithm.name}"[:LONG_TEXT],
            series_description=f"Segmentation: {algorithm.name}"[:LONG_TEXT],
            content_date=created.date(),
            content_time=created.time(),
            series_date=created.date(),
            series_time=created.time(),
            specific_character_set="ISO_IR 192",
            **algorithm.equipment,
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        if isinstance(error, DataError | ConfigError):
            raise
        raise DataError(f"No DICOM segmentation can be made for {volume.series}: {error}") from error
    made.ContentCreatorName = None
    if not volume.in_patient_space:
        made.PatientOrientation = frames[0].dataset.get("PatientOrientation")
    if not volume.in_patient_space and len(used) > 1:
        _take_place_away(made, used)
    _refer_to_source(made, frames, used)
    settle(made, identity, created)
    return made
