# SPDX-License-Identifier: Apache-2.0
"""Whether a loaded image, and its label, are what a preset takes them for."""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform

from monai_sam2unet.errors import DataError

__all__ = ["CheckImaged", "CheckLabeld"]

#: No picture has so many classes; JPEG masks have values about 0 and 255, others 0 and 128.
MASK_VALUE = 128


def _name(image: MetaTensor) -> str:
    return str(image.meta.get("filename_or_obj", "The image"))


class CheckImaged(MapTransform):
    """Refuse images of another kind: a wrong one would be predicted, and nobody would see it.

    Args:
        keys: keys of the images as loaded.
        is_volume: whether they are volumes (C, X, Y, Z); else pictures (C, H, W).
        channels: how many channels they may have.
        dicom_modalities: values of DICOM's Modality (0008,0060) that are taken; those without are not asked. None
            takes all.
        hounsfield: whether values should be HU, so that a volume without any below 0 gets a warning.

    Raises:
        DataError: On a call, when the image is none of these.
    """

    def __init__(
        self,
        keys: Hashable | Sequence[Hashable],
        is_volume: bool,
        channels: Sequence[int],
        dicom_modalities: Sequence[str] | None = None,
        hounsfield: bool = False,
    ) -> None:
        super().__init__(keys)
        self.is_volume = is_volume
        self.channels = tuple(channels)
        self.dicom_modalities = dicom_modalities
        self.hounsfield = hounsfield

    def _check(self, image: MetaTensor) -> None:
        name, shape = _name(image), tuple(image.shape)
        modality = str(image.meta.get("modality") or "")
        if self.dicom_modalities is not None and modality and modality not in self.dicom_modalities:
            raise DataError(
                f"{name} has the Modality {modality}; this preset takes {', '.join(self.dicom_modalities)}. Take the "
                "preset for it, or any_modality=True."
            )
        in_patient_space = bool(image.meta.get("in_patient_space", True))
        if self.is_volume and (image.ndim != 4 or not in_patient_space):
            raise DataError(
                f"{name} is no volume but a picture, or several, of shape {shape}; take a picture's preset."
            )
        if not self.is_volume and image.ndim != 3:
            choose = "choose a frame with dicom={'frame': n}" if not in_patient_space else "take the preset ct or mr"
            raise DataError(f"{name} is no picture (C, H, W) but has the shape {shape}; {choose}.")
        if len(image) not in self.channels:
            allowed = " or ".join(map(str, self.channels))
            raise DataError(
                f"{name} has {len(image)} channels (shape {shape}), {allowed} expected. Time points are saved one by "
                "one; for sequences that are meant as channels set the preset's channels."
            )
        if self.hounsfield and float(image.min()) >= 0:
            warnings.warn(f"{name} has no value below 0: are these HU?", stacklevel=2)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Check the images under the keys, and give all on as it is."""
        d = dict(data)
        for key in self.key_iterator(d):
            self._check(d[key])
        return d


class CheckLabeld(MapTransform):
    """Refuse labels that are not what they are read as.

    Args:
        keys: keys of the labels as loaded.
        image_key: key of the image, whose size pictures' labels must have.
        mask_threshold: from which value on a label is foreground; None for class indices.

    Raises:
        DataError: On a call, when a label has several channels or another size than its image; when it holds NaN;
            when it is read as class indices and holds fractions, negative values, only 0 and 255, or (a picture's)
            128 and more; or when it has values above 0, none of which reaches the threshold.
    """

    def __init__(self, keys: Hashable | Sequence[Hashable], image_key: Hashable, mask_threshold: float | None) -> None:
        super().__init__(keys)
        self.image_key = image_key
        self.mask_threshold = mask_threshold

    def _check(self, label: MetaTensor, image: MetaTensor) -> None:
        name = _name(label)
        if label.shape[1:] != image.shape[1:] or len(label) != 1:
            raise DataError(
                f"{name} has the shape {tuple(label.shape)}, {(1, *image.shape[1:])} is expected for {_name(image)}."
            )
        low, high = (float(value) for value in torch.aminmax(label.as_tensor()))
        if not math.isfinite(low + high):
            raise DataError(f"{name} holds NaN or infinite values.")
        if self.mask_threshold is None:
            two_values = high == 255 and not bool(((label > 0) & (label < 255)).any())
            if two_values or (high >= MASK_VALUE and label.ndim == 3):
                raise DataError(
                    f"{name} holds values up to {high:g}, which are those of a mask, not of classes; set "
                    "mask_threshold, as to 127.5."
                )
            if low < 0 or bool((label != label.round()).any()):
                raise DataError(f"{name} holds negative or broken numbers, which are no classes.")
        elif 0 < high < self.mask_threshold:
            raise DataError(
                f"{name} has values up to {high:g}, none of which reaches mask_threshold {self.mask_threshold:g}."
            )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Check the labels under the keys, and give all on as it is."""
        d = dict(data)
        for key in self.key_iterator(d):
            self._check(d[key], d[self.image_key])
        return d
