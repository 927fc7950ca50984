# SPDX-License-Identifier: Apache-2.0
"""Loads the labels of volumes as class indices, whatever numbers, files or segments a set has for them."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, PathLike
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import ImageMetaKey, MetaKeys, SpaceKeys

from monai_sam2unet.dicom import DicomSegmentation, is_dicom
from monai_sam2unet.errors import DataError
from monai_sam2unet.transforms.label_classes import LabelClasses
from monai_sam2unet.transforms.load_any_image import LoadAnyImage
from monai_sam2unet.transforms.same_grid import check_same_grid
from monai_sam2unet.transforms.tensors import plain

__all__ = ["LoadLabelClassesd"]


class LoadLabelClassesd(MapTransform):
    """Load the labels of volumes as class indices (1, X, Y, Z).

    Args:
        keys: keys of a label's file, or of the list of its files, one a class.
        classes: what is which class.
        require_orientation: as in :class:`monai_sam2unet.transforms.LoadAnyImage`.
        allow_missing_keys: whether a missing key is passed over.
        image_key: key of the loaded image, on whose grid a DICOM segmentation is put.
    """

    def __init__(
        self,
        keys: KeysCollection,
        classes: LabelClasses,
        require_orientation: bool = True,
        allow_missing_keys: bool = False,
        image_key: Hashable = "image",
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.classes = classes
        self.image_key = image_key
        self.load = LoadAnyImage("label", None, require_orientation)

    def _load(self, label: PathLike | Sequence[PathLike], image: Any) -> MetaTensor:
        if not isinstance(label, (str, os.PathLike)):
            return self._joined(label)
        if is_dicom(label):
            return self._segmented(label, image)
        found = self.load(label)
        return MetaTensor(self.classes.to_classes(plain(found), str(label))).copy_meta_from(found)

    def _segmented(self, path: PathLike, image: Any) -> MetaTensor:
        segmentation = DicomSegmentation(path)
        if not isinstance(image, MetaTensor):
            raise DataError(f"{path} is put on the grid of its image, which must be loaded under {self.image_key!r}.")
        segmentation.check_series(str(image.meta.get("series_uid") or ""))
        numbers = self.classes.of_segments(segmentation)
        affine = image.affine.cpu().numpy()
        classes = segmentation.to_classes(numbers, affine, image.shape[1:])
        meta = {MetaKeys.SPACE: SpaceKeys.RAS, ImageMetaKey.FILENAME_OR_OBJ: str(path)}
        return MetaTensor(torch.from_numpy(classes[None].astype(np.float32)), affine=image.affine.clone(), meta=meta)

    def _joined(self, paths: Sequence[PathLike]) -> MetaTensor:
        segmentations = [str(path) for path in paths if is_dicom(path)]
        if segmentations:
            raise DataError(
                f"A volume has one DICOM segmentation, which holds all classes; given are several files, of them "
                f"{', '.join(segmentations)}. Leave all but one away, or make one of them."
            )
        files = self.classes.of_files(paths)
        first_path, *_ = files
        first = self.load(first_path)
        classes = torch.zeros_like(plain(first))
        for path, index in files.items():
            part = first if path == first_path else self.load(path)
            check_same_grid({str(first_path): first, str(path): part})
            mask = plain(part) > 0
            if bool((mask & (classes > 0) & (classes != index)).any()):
                raise DataError(f"{path} overlaps with another class: a voxel has one class only.")
            classes[mask] = index
        return MetaTensor(classes).copy_meta_from(first)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Load what is under the keys.

        Raises:
            DataError: As :class:`monai_sam2unet.transforms.LoadAnyImage`, :class:`LabelClasses` and
                :class:`monai_sam2unet.dicom.DicomSegmentation`; or when the files of the classes do not lie on one
                grid, or overlap; or a segmentation has no image to be put on, or is that of another series.
        """
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self._load(d[key], d.get(self.image_key))
        return d
