# SPDX-License-Identifier: Apache-2.0
"""Makes of submitted labels cases that a bundle trains on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from monai_sam2unet.bundle import check_volumes
from monai_sam2unet.data import check_pairs
from monai_sam2unet.dicom import is_dicom
from monai_sam2unet.errors import DataError, listing
from monai_sam2unet.label.label_numbers import WHITE, class_numbers
from monai_sam2unet.label.single_slice import as_picture
from monai_sam2unet.label.submitted_labels import SubmittedLabel
from monai_sam2unet.transforms import LoadAnyImage, Preset

__all__ = ["LabelPreparation"]

_NUM_THREADS = 4
T = TypeVar("T")


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
        numbers = class_numbers(values, self.label_ids, label.names)
        return numbers if self.preset.mask_threshold is None else np.where(numbers > 0, np.uint8(WHITE), np.uint8(0))


def _picture(path: str) -> NDArray[Any]:
    """A mask (rows, columns)."""
    values = as_picture(LoadAnyImage("label", require_orientation=False)(path)).numpy()
    if values.ndim != 3 or len(values) != 1:
        raise DataError(f"{path} is no mask of a picture: its shape is {values.shape}.")
    return values[0]
