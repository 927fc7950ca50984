# SPDX-License-Identifier: Apache-2.0
"""MONAI Label's images and labels in a folder; final labels are looked at before they are kept."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import MetaTensor
from monailabel.interfaces.datastore import DefaultLabelTag
from monailabel.interfaces.exception import ImageNotFoundException
from numpy.typing import NDArray
from PIL import Image

from monai_sam2unet.errors import DataError
from monai_sam2unet.label.dicom_images import save_label_volume
from monai_sam2unet.label.locked_store import LockedStore
from monai_sam2unet.label.model_classes import ModelClasses, to_class_ids
from monai_sam2unet.label.single_slice import as_picture
from monai_sam2unet.transforms import LoadAnyImage, MatchOrientation

__all__ = ["FolderStore", "load_label"]


def load_label(label: str, image: str | Sequence[str]) -> MetaTensor:
    """A label on the grid of its image.

    Args:
        label: its file.
        image: file of the image; of a DICOM series the files.

    Returns:
        (1, X, Y, Z) of a volume, (1, H, W) of a picture.

    Raises:
        DataError: When one of them cannot be read, or they are not on one grid.
    """
    picture = LoadAnyImage("gray", require_orientation=False)(image)
    found = LoadAnyImage("label", require_orientation=False)(label)
    if picture.ndim == found.ndim == 4:
        return MatchOrientation()(found, picture)
    if picture.ndim == 3:
        found = as_picture(found)
    if picture.shape[1:] != found.shape[1:]:
        raise DataError(f"The label has {tuple(found.shape[1:])} pixels, its image {tuple(picture.shape[1:])}.")
    return found


def _check_numbers(values: NDArray, models: Sequence[ModelClasses]) -> None:
    """Numbers whose names are not told must be classes of a model."""
    problems = []
    for model in models:
        try:
            to_class_ids(values, {"model": model.model}, [model])
            return
        except DataError as error:
            problems.append(str(error))
    raise DataError("\n".join(problems))


class FolderStore(LockedStore):
    """Files of a folder as images.

    Args:
        path: the folder.
        models: of the server.
        options: of :class:`LocalDatastore`.
    """

    def __init__(self, path: str, models: Sequence[ModelClasses], **options: Any) -> None:
        self.models = list(models)
        super().__init__(path, **options)

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Save a label.

        A final label whose segments are named (``label_info``) gets the class ids of the model that has these classes,
        should the viewer have numbered them otherwise.

        Args:
            image_id: the image's name.
            label_filename: of the label.
            label_tag: ``final``, or another.
            label_info: what the viewer says of it, see :func:`monai_sam2unet.label.model_classes.to_class_ids`.

        Returns:
            The label's name, which is the image's.

        Raises:
            ImageNotFoundException: When there is no such image.
            DataError: When a final label cannot be read, is not on its image's grid, or has classes that no model has.
        """
        image = self.get_image_uri(image_id)
        if not image:
            raise ImageNotFoundException(f"There is no image {image_id!r} among the {len(self.list_images())} studies.")
        if label_tag != DefaultLabelTag.FINAL:
            return str(super().save_label(image_id, label_filename, label_tag, label_info))
        label = load_label(label_filename, image)
        if not label_info.get("label_info"):
            _check_numbers(label[0].numpy(), self.models)
            return str(super().save_label(image_id, label_filename, label_tag, label_info))
        ids, model = to_class_ids(label[0].numpy(), label_info, self.models)
        with tempfile.TemporaryDirectory() as work:
            if not np.array_equal(ids, label[0].numpy()):
                label_filename = str(Path(work) / ("label.nii.gz" if ids.ndim == 3 else "label.png"))
                if ids.ndim == 3:
                    save_label_volume(ids, label.affine.numpy(), Path(label_filename))
                else:
                    Image.fromarray(ids).save(label_filename)
            about = {**label_info, **model.label_info}
            return str(super().save_label(image_id, label_filename, label_tag, about))
