# SPDX-License-Identifier: Apache-2.0
"""The labels that annotators submitted, as cases that a bundle trains on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from numpy.typing import NDArray
from PIL import Image

from monai_sam2unet.bundle import check_volumes
from monai_sam2unet.bundle.folds import patients_of
from monai_sam2unet.data import PICTURES, check_pairs
from monai_sam2unet.data.image_check import READ_ERRORS
from monai_sam2unet.dicom import is_dicom
from monai_sam2unet.errors import DataError, listing
from monai_sam2unet.transforms import LoadAnyImage, Preset

__all__ = ["LabelPreparation", "SubmittedLabel", "by_patient", "submitted_labels"]

logger = logging.getLogger(__name__)
T = TypeVar("T")

VOLUME_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
_FINAL = DefaultLabelTag.FINAL.value
_NUM_THREADS = 4
_WHITE = 255


@dataclass(frozen=True)
class SubmittedLabel:
    """A label with the tag ``final``, and its image.

    Attributes:
        id: what the datastore calls the image.
        image: file, or folder of a DICOM series.
        label: file.
        names: what the viewer called the numbers in it; empty: it did not say.
        patient: PatientID, of an image from a DICOMweb store; None: not known.
    """

    id: str
    image: str
    label: str
    names: dict[int, str]
    patient: str | None = None


def _is_volume(path: str) -> bool | None:
    """Whether a file holds a volume; None: of DICOM its content tells, not its name."""
    if path.lower().endswith(VOLUME_SUFFIXES):
        return True
    return None if Path(path).is_dir() or is_dicom(path) else False


def _names(info: Mapping[str, Any]) -> dict[int, str]:
    """By number the names that a viewer sent along, as ``{"label_info": [{"name": "LV", "idx": 3}]}``."""
    told = info.get("label_info")
    entries = [entry for entry in told if isinstance(entry, dict)] if isinstance(told, list) else []
    numbers = {entry.get("idx", entry.get("labelID")): str(entry.get("name")) for entry in entries}
    return {number: name for number, name in numbers.items() if isinstance(number, int)}


def submitted_labels(store: Datastore, is_volume: bool) -> list[SubmittedLabel]:
    """The final labels of a datastore whose images are of a bundle's kind.

    Args:
        store: the studies; from a DICOMweb store what is missing is fetched.
        is_volume: whether the bundle takes volumes; else it takes pictures.
    """
    store.datalist()
    # What a DICOMweb store has is in its local copy now, under the images' ids; its own lists of it are two hours old.
    local = LocalDatastore if isinstance(store, LocalDatastore) else type(store)
    found = []
    for name in sorted(local.get_labeled_images(store)):
        image, label = store.get_image_uri(name), local.get_label_uri(store, name, _FINAL)
        patient = str(store.get_image_info(name).get("PatientID") or "UNK")
        names = _names(store.get_label_info(name, _FINAL))
        found.append(SubmittedLabel(name, image, label, names, None if patient == "UNK" else patient))
    fitting = [label for label in found if _is_volume(label.image) in (is_volume, None)]
    if len(fitting) < len(found):
        kind = "pictures" if is_volume else "volumes"
        logger.info(f"{len(found) - len(fitting)} labels of {kind} are left out.")
    return fitting


def by_patient(labels: Sequence[SubmittedLabel], group_pattern: str | None) -> dict[str, list[SubmittedLabel]]:
    """The labels of each patient.

    Args:
        labels: of them PatientID tells the patient, or else the pattern, or else each image has its own.
        group_pattern: as in :func:`monai_sam2unet.bundle.folds.leave_out_fold`, for the images' names. A pattern that
            none of them follows is one for other data.

    Raises:
        ConfigError: When the pattern is no regular expression.
        DataError: When it finds a patient in some names only.
    """
    items = [{"image": label.image, "case": label.id, "filename_or_obj": label.id, "label": label} for label in labels]
    for item, label in zip(items, labels, strict=True):
        item |= {} if label.patient is None else {"patient": label.patient}
    try:
        groups = patients_of(items, group_pattern)
    except DataError:
        if any(_follows(item, group_pattern) for item in items):
            raise
        logger.warning(f"No image's name follows group_pattern {group_pattern!r}: each counts as another patient.")
        groups = patients_of(items, None)
    return {patient: [item["label"] for item in group] for patient, group in groups.items()}


def _follows(item: Mapping[str, Any], group_pattern: str | None) -> bool:
    try:
        return bool(patients_of([item], group_pattern))
    except DataError:
        return False


class LabelPreparation:
    """Makes of submitted labels what a bundle's training reads.

    Args:
        preset: that of the bundle's training.
        label_ids: the bundle's classes with the numbers that ``/info/`` names.
    """

    def __init__(self, preset: Preset, label_ids: Mapping[str, int]) -> None:
        self.preset, self.label_ids = preset, dict(label_ids)
        self._load = LoadAnyImage("label", None, preset.require_orientation)

    def check(self, labels: Sequence[SubmittedLabel]) -> None:
        """Read all labels; their images are not looked at.

        Args:
            labels: of a datastore.

        Raises:
            DataError: When one cannot be read, or holds numbers that are no class; all are told at once.
        """
        self._each(self._read, labels)

    def write(self, labels: Sequence[SubmittedLabel], folder: Path) -> list[dict[str, str]]:
        """Write those labels that the bundle cannot read as they are, and check all with their images.

        Args:
            labels: of a datastore.
            folder: where to; it is made.

        Returns:
            For each a case ``{"image", "label", "dataset", "filename_or_obj"}``.

        Raises:
            DataError: As :meth:`check`, or when a label does not fit its image.
        """
        folder.mkdir(parents=True, exist_ok=True)
        files = self._each(lambda label: self._written(label, folder), labels)
        cases = [
            {"image": label.image, "label": str(file), "dataset": "final", "filename_or_obj": label.image}
            for label, file in zip(labels, files, strict=True)
        ]
        if self.preset.is_volume:
            check_volumes(cases, self.preset)
            return cases
        threshold = self.preset.mask_threshold
        num_classes = len(self.label_ids) if threshold is None else None
        pictures = [case for case in cases if not is_dicom(case["image"])]
        picture = self.preset.particulars.picture
        check_pairs(pictures, mask_threshold=threshold, num_classes=num_classes, picture=picture)
        return cases

    def _each(self, function: Callable[[SubmittedLabel], T], labels: Sequence[SubmittedLabel]) -> list[T]:
        problems: list[str] = []

        def tried(label: SubmittedLabel) -> list[T]:
            try:
                return [function(label)]
            except DataError as error:
                problems.append(f"{label.id}: {' '.join(str(error).split())}")
                return []

        with ThreadPoolExecutor(_NUM_THREADS) as pool:
            found = [one for result in pool.map(tried, labels) for one in result]
        if problems:
            told = ", ".join(f"{name} ({number})" for name, number in self.label_ids.items())
            raise DataError(
                f"{len(problems)} submitted labels cannot be trained on. The classes are {told}; correct these labels "
                f"in the viewer and submit them again:\n{listing(sorted(problems))}"
            )
        return found

    def _read(self, label: SubmittedLabel) -> tuple[NDArray[Any], NDArray[np.uint8], NDArray[Any]] | None:
        """The values of a label, the bundle's for them, and the affine; None: a DICOM segmentation tells by names."""
        if is_dicom(label.label):
            return None
        if not self.preset.is_volume:
            values = _picture(label.label)
            return values, self._classes(values, label), np.eye(4)
        volume = self._load(label.label)
        values = volume.numpy()[0]
        return values, self._classes(values, label), volume.affine.numpy()

    def _written(self, label: SubmittedLabel, folder: Path) -> Path:
        read = self._read(label)
        if read is None:
            return Path(label.label)
        values, classes, affine = read
        if not self.preset.is_volume:
            path = folder / f"{label.id}.png"
            Image.fromarray(classes).save(path)
            return path
        if np.array_equal(classes, values):
            return Path(label.label)
        path = folder / f"{label.id}.nii.gz"
        nib.save(nib.Nifti1Image(classes, affine), path)
        return path

    def _classes(self, values: NDArray[Any], label: SubmittedLabel) -> NDArray[np.uint8]:
        """The bundle's class indices, or where it reads masks by a threshold, 0 and 255."""
        unique = np.unique(values)
        if not np.array_equal(unique, np.round(unique)):
            raise DataError("it holds broken numbers, which are no classes.")
        found = [int(value) for value in unique if value != 0]
        names = label.names or {number: name for name, number in self.label_ids.items()}
        if len(self.label_ids) == 1 and not label.names and found == [_WHITE]:
            names = {_WHITE: next(iter(self.label_ids))}
        nameless = [str(number) for number in found if number not in names]
        if nameless:
            raise DataError(f"it holds the numbers {', '.join(nameless[:5])}, which are no class.")
        others = [f"{names[number]} ({number})" for number in found if names[number] not in self.label_ids]
        if others:
            raise DataError(f"it shows {', '.join(others)}, which is no class of this bundle.")
        classes = np.zeros(values.shape, np.uint8)
        for number in found:
            index = self.label_ids[names[number]]
            classes[values == number] = _WHITE if self.preset.mask_threshold is not None else index
        return classes


def _picture(path: str) -> NDArray[Any]:
    """A mask (rows, columns); viewers of volumes save it as one of a single slice."""
    try:
        if path.lower().endswith(VOLUME_SUFFIXES):
            values = sitk.GetArrayFromImage(sitk.ReadImage(path))
            values = values.reshape(values.shape[-2:]) if values.size == np.prod(values.shape[-2:]) else values
        else:
            with Image.open(path) as opened:
                values = np.asarray(PICTURES["label"](opened))
    except (*READ_ERRORS, RuntimeError) as error:
        raise DataError(f"{path} cannot be read ({str(error).strip().splitlines()[-1]}).") from error
    if values.ndim != 2:
        raise DataError(f"{path} is no mask of a picture: its shape is {values.shape}.")
    return values
