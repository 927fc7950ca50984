# SPDX-License-Identifier: Apache-2.0
"""MONAI Label's folder of images and labels, for several requests at once."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from monailabel.config import settings
from monailabel.datastore.local import LocalDatastore

from monai_sam2unet.batch.identity import hashed_uid
from monai_sam2unet.errors import DataError

__all__ = ["LockedStore", "without_patient"]

#: PatientID of an image that has none.
UNKNOWN = "UNK"
_HASHED = re.compile(r"#[0-9a-f]{10}")


def _check_name(kind: str, name: str) -> None:
    """Names become those of files and folders."""
    if not isinstance(name, str) or name.startswith(".") or any(sign in name for sign in "/\\\0"):
        raise DataError(f"The {kind} {name!r} is no plain name: it may hold no '/' or '\\' and not begin with '.'.")


def _check_suffix(kind: str, file: str, patterns: Sequence[str]) -> None:
    suffixes = sorted({pattern.removeprefix("*") for pattern in patterns})
    if not file.endswith(tuple(suffixes)):
        given = "".join(Path(file).suffixes) or "none"
        raise DataError(f"{kind} of this kind ({given}) are not kept here; those kept are {', '.join(suffixes)}.")


def without_patient(info: dict[str, Any]) -> dict[str, Any]:
    """What is known of an image, with a hash in the place of PatientID.

    That is needed to tell patients apart only, and MONAI Label logs what is known of the next image.

    Args:
        info: what is known.
    """
    patient = str(info.get("PatientID") or UNKNOWN)
    return info if patient == UNKNOWN or _HASHED.fullmatch(patient) else {**info, "PatientID": hashed_uid(patient)}


class LockedStore(LocalDatastore):
    """A :class:`LocalDatastore` that one thread at a time reads or changes.

    MONAI Label's own empties its list before it fills it anew, so that a request that comes between finds no image; and
    it does so in a thread of its own whenever a file comes.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._turn = threading.RLock()
        super().__init__(*args, **kwargs)

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Add an image.

        Args:
            image_id: its name; empty: that of its file.
            image_filename: its file.
            image_info: what is known of it; of PatientID a hash is kept.

        Returns:
            Its name.

        Raises:
            DataError: When the name is no plain one, for it becomes that of a file, or the file is not one of images.
        """
        _check_name("image's name", image_id or "")
        _check_suffix("Images", image_filename, [*self._extensions, "*.dcm"])
        with self._turn:
            return str(super().add_image(image_id, image_filename, without_patient(image_info or {})))

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        """Add to what is known of an image.

        Args:
            image_id: its name.
            info: what is known; of PatientID a hash is kept.

        Raises:
            ImageNotFoundException: When there is no such image.
        """
        with self._turn:
            super().update_image_info(image_id, without_patient(info))

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Save a label.

        Args:
            image_id: the image's name.
            label_filename: the label's file.
            label_tag: ``final``, or another: the name of the folder that it is kept in.
            label_info: what is known of it.

        Returns:
            The label's name, which is the image's.

        Raises:
            ImageNotFoundException: When there is no such image.
            DataError: When image or tag are no plain names, or the file is not one of labels.
        """
        _check_name("image's name", image_id)
        _check_name("tag", label_tag)
        patterns = [*self._extensions, *settings.MONAI_LABEL_DATASTORE_FILE_EXT, "*.json"]
        _check_suffix("Labels", label_filename, patterns)
        with self._turn:
            return str(super().save_label(image_id, label_filename, label_tag, label_info))


def _one_at_a_time(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def locked(self: LockedStore, *args: Any, **kwargs: Any) -> Any:
        with self._turn:
            return method(self, *args, **kwargs)

    return locked


for _name in (
    "_init_from_datastore_file",
    "_reconcile_datastore",
    "_update_datastore_file",
    "datalist",
    "get_image_info",
    "get_image_uri",
    "get_label_info",
    "get_label_uri",
    "get_labeled_images",
    "get_labels_by_image_id",
    "get_unlabeled_images",
    "json",
    "list_images",
    "remove_image",
    "remove_label",
    "status",
    "update_label_info",
):
    setattr(LockedStore, _name, _one_at_a_time(getattr(LocalDatastore, _name)))
