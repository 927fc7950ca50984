# SPDX-License-Identifier: Apache-2.0
"""Finds DICOM files, reads each header once, and groups the images by series."""

from __future__ import annotations

import os
import re
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import pydicom
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)

from monai_sam2unet.dicom.frame import Frame, frames_of, reading
from monai_sam2unet.dicom.limits import BoundedFile, check_decoded_size, check_deferred
from monai_sam2unet.errors import DataError, listing

__all__ = ["Series", "find_series", "is_dicom", "select_series"]

#: Values longer than this (bytes) stay in the file until asked for, so that not all pixels of a folder are held.
DEFER_SIZE = 16384
#: Names that a DICOM file may have where its first bytes do not show what it is.
SUFFIXES = (".dcm", ".dicom", ".ima")
#: Bytes of preamble and ``DICM``.
HEAD = 132
#: First element of a data set without preamble or File Meta Information: group 2 or 8, little or big endian, then a VR
#: or a small length.
DATA_SET_START = re.compile(
    rb"[\x02\x08]\x00[\x00-\x1f]\x00([A-Z]{2}|[\x00-\x7f]\x00\x00\x00)|\x00[\x02\x08]\x00[\x00-\x1f][A-Z]{2}"
)
#: Segmentations (PS3.4 B.5).
SEGMENTATIONS = {
    UID("1.2.840.10008.5.1.4.1.1.66.4"): "a segmentation",
    UID("1.2.840.10008.5.1.4.1.1.66.7"): "a label map segmentation",
}
#: Objects with pixel data that are no images to segment (PS3.4 B.5).
NO_IMAGES = {
    **SEGMENTATIONS,
    UID("1.2.840.10008.5.1.4.1.1.481.2"): "a radiotherapy dose",
}


@dataclass
class Series:
    """The images of one series.

    Args:
        uid: SeriesInstanceUID; empty where the files have none (they are then grouped by their folder).
        description: SeriesDescription, may be empty.
        modality: Modality, may be empty.
        frames: all frames of all files, in no order that means anything.
    """

    uid: str
    description: str
    modality: str
    frames: list[Frame] = field(default_factory=list)

    def __str__(self) -> str:
        name = self.uid or f"(no SeriesInstanceUID) {self.frames[0].path.parent}"
        return f"{name}  {self.modality or '?'}  {self.description or '(no description)'}  {len(self.frames)} images"


def is_dicom(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a DICOM file (PS3.10: ``DICM`` after 128 bytes).

    Args:
        path: the file.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123 (path may be of any kind that opens)
            return file.read(HEAD)[128:] == b"DICM"
    except OSError:
        return False


def may_be_dicom(path: Path) -> bool:
    """Whether a file is DICOM, or is meant to be: by its name, or because a DICOM data set starts with its first byte.

    Such a file is not passed over, since a slice would be missing.

    Args:
        path: the file.

    Raises:
        OSError: When it cannot be opened.
    """
    if has_dicom_name(path):
        return True
    with path.open("rb") as file:
        return starts_as_dicom(file.read(HEAD))


def has_dicom_name(path: PurePath) -> bool:
    """Whether a file's name is that of a DICOM file."""
    # macOS keeps a file's attributes beside it as "._" and its name.
    return path.suffix.lower() in SUFFIXES and not path.name.startswith("._")


def starts_as_dicom(head: bytes) -> bool:
    """Whether a file's first 132 bytes are those of a DICOM file, or of a data set."""
    return head[128:] == b"DICM" or DATA_SET_START.match(head) is not None


def files_in(folder: Path) -> Iterator[Path]:
    """The files of a folder, at any depth, that may be DICOM; linked folders are not entered.

    Args:
        folder: where to look.

    Raises:
        DataError: When a folder or file cannot be read, or a link leads nowhere.
    """

    def refuse(error: OSError) -> None:
        raise DataError(f"The folder {error.filename} cannot be read: {error.strerror}.") from error

    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders.sort()
        for path in (Path(parent, name) for name in sorted(names)):
            if path.is_file():
                with reading(path):
                    wanted = may_be_dicom(path)
                if wanted:
                    yield path
            elif path.is_symlink():
                raise DataError(f"{path} is a link to a file that is not there.")


def _without_meta(path: Path, strict: bool) -> FileDataset:
    """A file without File Meta Information, taken as uncompressed in the encoding it shows."""
    with BoundedFile.at(path) as file:
        dataset = pydicom.dcmread(file, force=True)
    if "SOPClassUID" not in dataset and "Rows" not in dataset:
        raise DataError(f"{path} is not a DICOM file.")
    problem = f"{path} has no File Meta Information, so its transfer syntax is not known."
    if strict:
        raise DataError(f"{problem} With strict=False it is taken as uncompressed.")
    implicit, little = dataset.original_encoding
    warnings.warn(f"{problem} It is taken as uncompressed.", stacklevel=2)
    syntaxes = {True: ImplicitVRLittleEndian, False: ExplicitVRLittleEndian if little else ExplicitVRBigEndian}
    dataset.file_meta.TransferSyntaxUID = syntaxes[bool(implicit)]
    return dataset


def read_header(path: Path, strict: bool = True) -> FileDataset:
    """Read a file but for its long values.

    Args:
        path: the file.
        strict: whether a file without File Meta Information is an error.

    Raises:
        DataError: When the file cannot be read, is not DICOM, has no transfer syntax, or holds more elements
            than an image does.
    """
    with reading(path):
        return _read(path) if is_dicom(path) else _without_meta(path, strict)


def _read(path: Path) -> FileDataset:
    with BoundedFile.at(path) as file:
        dataset = pydicom.dcmread(file, defer_size=DEFER_SIZE)
        syntax = dataset.file_meta.get("TransferSyntaxUID")
        if syntax is None:
            raise DataError(f"{path}: the File Meta Information has no TransferSyntaxUID.")
        if syntax != DeflatedExplicitVRLittleEndian:
            check_deferred(dataset, file)
            return dataset
        # Places in an inflated stream are not places in the file, so nothing can be read later.
        file.seek(0)
        return pydicom.dcmread(file)


def why_no_image(dataset: Dataset, shown: object, has_pixels: bool | None = None) -> str | None:
    """What an object is if it is no image to read, else None.

    Args:
        dataset: the object.
        shown: its file, for error texts.
        has_pixels: whether it has pixel data, where the dataset ends before them.

    Raises:
        DataError: When it is an image that has lost its pixel data: passed over, its slice would be missing.
    """
    kind = NO_IMAGES.get(dataset.get("SOPClassUID"))
    if has_pixels is None:
        has_pixels = any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"))
    if kind is not None or has_pixels:
        return kind
    name = UID(dataset.SOPClassUID).name if dataset.get("SOPClassUID") else ""
    if "Image Storage" in name:
        raise DataError(f"{shown} is an image ({name}) without pixel data: it is cut off, or they were taken out.")
    return f"an object without pixel data ({name})" if name else "an object without pixel data"


def dicomdir_files(path: Path) -> list[Path]:
    """The files that a DICOMDIR names, whether they are there or not.

    Args:
        path: the DICOMDIR.

    Raises:
        DataError: When it cannot be read, names no files, or names one outside its folder.
    """
    # pydicom's FileSet leaves out files that are not there, so the records are read here.
    files = []
    with reading(f"The directory records of {path}"):
        with BoundedFile.at(path) as file:
            records = pydicom.dcmread(file).get("DirectoryRecordSequence") or ()
        for record in records:
            name = record.get("ReferencedFileID")
            if name and record.get("RecordInUseFlag") != 0:
                parts = [name] if isinstance(name, str) else list(name)
                if any(part == ".." or "/" in part or "\0" in part for part in parts):
                    raise DataError(f"{path} names a file that need not lie in its folder: {parts}.")
                files.append(path.parent.joinpath(*parts))
    if not files:
        raise DataError(f"{path} names no files.")
    return files


def _dicomdir_files(path: Path) -> list[Path]:
    files = dicomdir_files(path)
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        raise DataError(f"{path} names {len(missing)} files that are not there:\n{listing(missing)}")
    return files


def _candidates(source: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[tuple[Path, bool]]:
    """Files to look at, and whether each was named itself (and so must be an image)."""
    paths = [Path(source)] if isinstance(source, str | os.PathLike) else [Path(path) for path in source]
    if not paths:
        raise DataError("No DICOM file is given.")
    files: list[tuple[Path, bool]] = []
    for path in paths:
        if path.is_dir():
            files += [(file, False) for file in files_in(path)]
        elif path.is_file():
            files.append((path, True))
        else:
            raise DataError(f"There is no file or folder {path}.")
    # A file that lies in a folder and is named beside it, too, is one file.
    return list({path.resolve(): (path, named) for path, named in files}.values())


def find_series(source: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], strict: bool = True) -> list[Series]:
    """Group the images of files by series.

    Other files of a folder, DICOM objects that are no images (reports, segmentations, doses) and DICOMDIRs in it are
    passed over; a file that is named itself must be an image. A file that is meant to be DICOM, by its name or its
    first bytes, is never passed over. Linked folders are not entered. Each file's header is read once.

    Args:
        source: a file, a folder (searched at any depth), a DICOMDIR, or several of these.
        strict: whether a file without File Meta Information is an error.

    Returns:
        The series, ordered by modality, description and UID.

    Raises:
        DataError: When something named does not exist, cannot be read, or is no image; a file of a folder cannot be
            opened, or is DICOM but cannot be read; a DICOMDIR names files that are not there; or there is no image at
            all.
    """
    found: dict[tuple[str, Path | None], Series] = {}
    passed: list[str] = []
    queue = deque(_candidates(source))
    while queue:
        path, named = queue.popleft()
        dataset = read_header(path, strict)
        with reading(path):
            if dataset.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
                if named:
                    queue.extend((file, False) for file in _dicomdir_files(path))
                continue
            kind = why_no_image(dataset, path)
            if kind is not None:
                if named:
                    hint = " It may be a preset's label, with label_classes." if kind in SEGMENTATIONS.values() else ""
                    raise DataError(f"{path} is no image to read: it is {kind}.{hint}")
                passed.append(f"{path}: {kind}")
                continue
            check_decoded_size(dataset, path, path.stat().st_size)
            uid, description, modality = (
                str(dataset.get(name) or "") for name in ("SeriesInstanceUID", "SeriesDescription", "Modality")
            )
            key = (uid, None if uid else path.parent)
            found.setdefault(key, Series(uid, description, modality)).frames += frames_of(path, dataset)
    if not found:
        others = f" Passed over:\n{listing(passed)}" if passed else ""
        raise DataError(f"There is no DICOM image in {source}.{others}")
    return sorted(found.values(), key=lambda series: (series.modality, series.description, series.uid))


def select_series(series: Sequence[Series], series_uid: str | None = None) -> Series:
    """The one series wanted.

    Args:
        series: what :func:`find_series` found.
        series_uid: SeriesInstanceUID of the one wanted; None where there is but one.

    Raises:
        DataError: When there are several and none is named, or the one named is not there; the text lists them.
    """
    chosen = [item for item in series if series_uid is None or item.uid == series_uid]
    if len(chosen) == 1:
        return chosen[0]
    listed = listing([str(item) for item in series], limit=30)
    if not chosen:
        raise DataError(f"There is no series {series_uid}. There are:\n{listed}")
    without = (
        " Those without SeriesInstanceUID: give the folder of one." if any(not item.uid for item in chosen) else ""
    )
    raise DataError(f"There are {len(chosen)} series; choose one with series_uid.{without}\n{listed}")
