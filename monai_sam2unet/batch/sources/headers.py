# SPDX-License-Identifier: Apache-2.0
"""Reads of a DICOM file what tells which series it belongs to, and whether it is an image."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from sys import intern
from typing import BinaryIO

import numpy as np
import pydicom
from pydicom.dataset import FileDataset
from pydicom.tag import Tag
from pydicom.uid import MediaStorageDirectoryStorage

from monai_sam2unet.batch.guards import printable
from monai_sam2unet.dicom.frame import Frame, frames_of, image_type, reading
from monai_sam2unet.dicom.limits import BoundedFile, check_decoded_size
from monai_sam2unet.dicom.series import HEAD, SUFFIXES, why_no_image
from monai_sam2unet.errors import DataError

__all__ = ["BadFile", "Header", "NoImage", "read_brief"]

WANTED = [
    Tag(keyword)
    for keyword in (
        "SOPClassUID",
        "SOPInstanceUID",
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "Modality",
        "SeriesDescription",
        "BodyPartExamined",
        "ImageType",
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "NumberOfFrames",
        "Rows",
        "Columns",
        "SamplesPerPixel",
        "BitsAllocated",
        "SharedFunctionalGroupsSequence",
        "PerFrameFunctionalGroupsSequence",
    )
]
#: Elements of pixel data: whole numbers, and floating point of 32 and 64 bits.
PIXELS = (0x7FE00010, 0x7FE00008, 0x7FE00009)
UNDEFINED = 0xFFFFFFFF
ITEM = (0xFFFE, 0xE000)
#: Cosine of the angle up to which two images count as of one orientation here; the reader is stricter.
SAME_DIRECTION = 0.999
LONG_VRS = (b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"UN", b"SQ", b"UT", b"UC", b"UR")


@dataclass(frozen=True)
class Header:
    """What is kept of an image's header.

    Args:
        path: the file.
        size: of the file, in bytes.
        series_uid: SeriesInstanceUID; may be empty, as all texts here.
        study_uid: StudyInstanceUID.
        instance_uid: SOPInstanceUID.
        modality: Modality.
        description: SeriesDescription, control characters escaped.
        body_part: BodyPartExamined.
        image_type: ImageType.
        frames: how many.
        normal: unit vector (3,) in LPS at right angles to the image; empty outside a patient space.
        same_normal: whether all frames of the file have it.
        archive: the zip archive that the file lies in; else None.
    """

    path: Path
    size: int
    series_uid: str
    study_uid: str
    instance_uid: str
    modality: str
    description: str
    body_part: str
    image_type: tuple[str, ...]
    frames: int
    normal: tuple[float, ...]
    same_normal: bool
    archive: Path | None = None

    @property
    def is_localizer(self) -> bool:
        """Whether ImageType says LOCALIZER (PS3.3 C.8.2.1.1.1)."""
        return "LOCALIZER" in self.image_type


@dataclass(frozen=True)
class BadFile:
    """A file that should be a DICOM image and cannot be read.

    Args:
        path: the file.
        reason: why.
        series_uid: SeriesInstanceUID, where that could be read; else empty.
    """

    path: Path
    reason: str
    series_uid: str = ""


@dataclass(frozen=True)
class NoImage:
    """A file that is no DICOM image.

    Args:
        kind: what it is.
    """

    kind: str


def read_brief(file: BinaryIO, path: Path, size: int, strict: bool = True) -> Header | BadFile | NoImage:
    """Read a header up to the pixel data.

    Args:
        file: open at its first byte; it is closed.
        path: its name.
        size: in bytes.
        strict: whether a file without File Meta Information cannot be read.

    Returns:
        What it is; nothing is raised for what the file holds.
    """
    dataset: FileDataset | None = None
    try:
        with reading(printable(path)), BoundedFile(file, printable(path)) as bounded:
            dataset = _read(bounded, strict)
            return _brief(dataset, bounded, path, size)
    except DataError as error:
        return BadFile(path, str(error), _series_uid(dataset))


def _series_uid(dataset: FileDataset | None) -> str:
    try:
        return "" if dataset is None else _text(dataset, "SeriesInstanceUID")
    # What is damaged may be this very value.
    except Exception:
        return ""


def _read(file: BoundedFile, strict: bool) -> FileDataset:
    has_meta = file.read(HEAD)[128:] == b"DICM"
    file.seek(0)
    if not has_meta:
        dataset = pydicom.dcmread(file, force=True, stop_before_pixels=True, specific_tags=[*WANTED])
        if "SOPClassUID" not in dataset and "Rows" not in dataset:
            raise DataError(f"{file.shown} is not a DICOM file, though its name ({', '.join(SUFFIXES)}) or start is.")
        if strict:
            raise DataError(f"{file.shown} has no File Meta Information, so its transfer syntax is not known.")
        return dataset
    dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=[*WANTED])
    if dataset.file_meta.get("TransferSyntaxUID") is None:
        raise DataError(f"{file.shown}: the File Meta Information has no TransferSyntaxUID.")
    return dataset


def _brief(dataset: FileDataset, file: BoundedFile, path: Path, size: int) -> Header | NoImage:
    if dataset.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
        return NoImage("a DICOMDIR")
    missing = _missing_pixels(dataset, file, size)
    kind = why_no_image(dataset, file.shown, missing is not None)
    if kind is not None:
        return NoImage(kind)
    if missing:
        raise DataError(f"{file.shown} is cut off: {missing:,} bytes of its pixel data are missing.")
    check_decoded_size(dataset, file.shown, size)
    frames = frames_of(path, dataset)
    # Asked for, since an image without them is bad.
    _ = frames[0].shape
    normals = _normals(frames)
    return Header(
        path,
        size,
        intern(_text(dataset, "SeriesInstanceUID")),
        intern(_text(dataset, "StudyInstanceUID")),
        _text(dataset, "SOPInstanceUID"),
        intern(_text(dataset, "Modality")),
        intern(_text(dataset, "SeriesDescription")),
        intern(_text(dataset, "BodyPartExamined")),
        tuple(intern(printable(str(value))) for value in image_type(dataset)),
        len(frames),
        normals[0] if normals else (),
        all(np.dot(normals[0], normal) > SAME_DIRECTION for normal in normals[1:]),
    )


def _normals(frames: list[Frame]) -> list[tuple[float, ...]]:
    """Normals of the first, middle and last frame; none where they do not lie in a patient space."""
    chosen = [frames[0], frames[len(frames) // 2], frames[-1]] if len(frames) > 1 else frames
    if not all(frame.in_patient_space for frame in chosen):
        return []
    return [tuple(map(float, frame.normal)) for frame in chosen]


def _text(dataset: FileDataset, keyword: str) -> str:
    value = dataset.get(keyword)
    return printable(str(value)) if value is not None else ""


def _missing_items(file: BoundedFile, form: str, size: int) -> int:
    """How many bytes of compressed pixel data the file lacks, at least: their items end with a delimiter."""
    while len(head := file.read(8)) == 8:
        group, element, length = struct.unpack(form, head)
        if (group, element) != ITEM or length == UNDEFINED:
            # The delimiter; or damage, of which the decoder tells more.
            return 0
        end = file.tell() + length
        if end > size:
            return end - size
        file.seek(end)
    return 8 - len(head)


def _missing_pixels(dataset: FileDataset, file: BoundedFile, size: int) -> int | None:
    """How many bytes of the pixel data the file lacks, at least; None where it has no pixel data.

    Reading has stopped before them, in the file or, of a deflated one, in what it was inflated to.
    """
    inflated = dataset.buffer
    implicit, little = dataset.original_encoding
    order = ">" if little is False else "<"
    head = (file if inflated is None else inflated).read(12)
    if len(head) < 8:
        return None
    group, element = struct.unpack_from(f"{order}HH", head)
    if (group << 16 | element) not in PIXELS:
        return None
    if not implicit and head[4:6] in LONG_VRS:
        length = struct.unpack_from(f"{order}L", head, 8)[0] if len(head) == 12 else UNDEFINED
        start = 12
    else:
        length, start = struct.unpack_from(f"{order}L", head, 4)[0], 8
    if inflated is not None:
        return 0
    if length == UNDEFINED:
        file.seek(file.tell() - len(head) + start)
        return _missing_items(file, f"{order}HHL", size)
    return max(0, file.tell() - len(head) + start + length - size)
