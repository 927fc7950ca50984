# SPDX-License-Identifier: Apache-2.0
"""Which DICOM series and segmentations there are in a folder, without keeping their headers."""

from __future__ import annotations

import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import MediaStorageDirectoryStorage

from monai_sam2unet.dicom.frame import image_type, reading
from monai_sam2unet.dicom.segmentation import referenced_series
from monai_sam2unet.dicom.series import SEGMENTATIONS, files_in, read_header, why_no_image
from monai_sam2unet.errors import DataError

__all__ = ["Catalogue", "FoundSeries", "catalogue"]

#: Attributes that say where an image lies in the patient; of enhanced ones functional groups do.
_PLACED = ("ImageOrientationPatient", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")


@dataclass(frozen=True, eq=False)
class FoundSeries:
    """The files of one series.

    Args:
        uid: SeriesInstanceUID; empty where the files have none.
        study: StudyInstanceUID, may be empty.
        patient: PatientID, may be empty.
        files: its images.
    """

    uid: str
    study: str
    patient: str
    files: tuple[Path, ...]

    @cached_property
    def folder(self) -> Path:
        """The folder that holds all its files."""
        return Path(os.path.commonpath([path.parent for path in self.files]))


@dataclass(frozen=True)
class Catalogue:
    """What DICOM a folder holds.

    Args:
        series: those that may be volumes.
        segmentations: files of segmentations, with SeriesInstanceUID of the series that each says it segments.
        others: how many other files there are, by what they are.
        problems: a line for each file that cannot be read.
    """

    series: tuple[FoundSeries, ...]
    segmentations: dict[Path, tuple[str, ...]]
    others: dict[str, int]
    problems: tuple[str, ...]


def _why_no_volume(dataset: Dataset) -> str:
    if "LOCALIZER" in image_type(dataset):
        return "a localizer"
    return "" if any(name in dataset for name in _PLACED) else "a picture without a place in the patient"


def catalogue(folders: Sequence[str | os.PathLike[str]]) -> Catalogue:
    """Look through folders, at any depth, for DICOM; hidden files and linked folders are left out.

    Each file's header is read once. Files without File Meta Information count as DICOM, as ``strict=False`` reads them.

    Args:
        folders: where to look.

    Raises:
        DataError: When a folder cannot be searched.
    """
    segmentations: dict[Path, tuple[str, ...]] = {}
    others: Counter[str] = Counter()
    problems: list[str] = []
    images: dict[tuple[str, ...], list[tuple[Path, str]]] = defaultdict(list)
    found = {path: None for folder in folders for path in files_in(Path(folder)) if not _is_hidden(path, Path(folder))}
    for path in found:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                dataset = read_header(path, strict=False)
            with reading(path):
                kind = why_no_image(dataset, path)
                if dataset.get("SOPClassUID") in SEGMENTATIONS:
                    segmentations[path] = referenced_series(dataset)
                elif dataset.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
                    continue
                elif kind is not None:
                    others[kind] += 1
                else:
                    names = ("SeriesInstanceUID", "StudyInstanceUID", "PatientID")
                    uid, study, patient = (str(dataset.get(name) or "").strip() for name in names)
                    key = (uid, study, patient, "" if uid else str(path.parent))
                    images[key].append((path, _why_no_volume(dataset)))
        except DataError as error:
            problems.append(" ".join(str(error).split()))
    series = []
    for (uid, study, patient, _), own in images.items():
        # A localizer among other images is for the reader to refuse.
        if all(kind for _, kind in own):
            others[own[0][1]] += len(own)
        else:
            series.append(FoundSeries(uid, study, patient, tuple(sorted(path for path, _ in own))))
    return Catalogue(tuple(series), segmentations, dict(others), tuple(problems))


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)
