# SPDX-License-Identifier: Apache-2.0
"""How segmentations refer to the images they are made from, whatever kinds of files these are."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from highdicom.seg import Segmentation
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import UID, CTImageStorage, SecondaryCaptureImageStorage, generate_uid

from monai_sam2unet.dicom.derived_object import patient_and_study
from monai_sam2unet.dicom.frame import Frame, reading
from monai_sam2unet.dicom.volume import DicomVolume

__all__ = ["refer_to_source", "source_references", "stand_ins", "take_place_away"]

#: Of frames without a place in the patient, while the object is made.
NO_ORIENTATION = [1, 0, 0, 0, 1, 0]


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


def stand_ins(volume: DicomVolume, frames: Sequence[Frame]) -> list[Dataset]:
    """What highdicom is shown of the source: each frame as an image of its own, under its number as UID.

    It takes either single-frame images or one enhanced one of which all frames are segmented, nothing else.

    Args:
        volume: the source.
        frames: those of its frames that are segmented, in the mask's order.

    Raises:
        DataError: When the source cannot be referred to.
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


def refer_to_source(made: Segmentation, frames: Sequence[Frame], used: Sequence[Frame]) -> None:
    """Replace the stand-ins' UIDs by those of the source, and refer to all of it.

    Args:
        made: the segmentation; it is changed.
        frames: all frames of the source.
        used: those that were segmented, as :func:`stand_ins` was given them.
    """
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


def take_place_away(made: Segmentation, used: Sequence[Frame]) -> None:
    """Number frames that have no place in the patient (cine), instead of placing them.

    Args:
        made: the segmentation; it is changed.
        used: the frames that were segmented, as :func:`stand_ins` was given them.
    """
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
