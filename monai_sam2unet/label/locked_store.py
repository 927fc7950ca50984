# SPDX-License-Identifier: Apache-2.0
"""MONAI Label's folder of images and labels, for several requests at once."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

from monailabel.datastore.local import LocalDatastore

__all__ = ["LockedStore"]


class LockedStore(LocalDatastore):
    """A :class:`LocalDatastore` that one thread at a time reads or changes.

    MONAI Label's own empties its list before it fills it anew, so that a request that comes between finds no image; and
    it does so in a thread of its own whenever a file comes.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._turn = threading.RLock()
        super().__init__(*args, **kwargs)


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
    "add_image",
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
    "save_label",
    "status",
    "update_image_info",
    "update_label_info",
):
    setattr(LockedStore, _name, _one_at_a_time(getattr(LocalDatastore, _name)))
