# SPDX-License-Identifier: Apache-2.0
"""What the datastore knows of an image, written by several processes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock
from monailabel.datastore.local import LocalDatastore, LocalDatastoreModel
from monailabel.interfaces.datastore import Datastore

__all__ = ["update_image_info"]


def update_image_info(store: Datastore, image: str, info: Mapping[str, Any], key: str | None = None) -> None:
    """Add to an image's information without undoing what another process wrote meanwhile.

    MONAI Label's local datastore writes its whole list as it last read it, so that a scoring beside the server could
    drop a label that came in since.

    Args:
        store: the studies.
        image: its name; nothing is done when it has been removed.
        info: what is added.
        key: of the dictionary, in the information, that it is added to; None: to the information itself.
    """

    def change(known: Mapping[str, Any]) -> dict[str, Any]:
        return dict(info) if key is None else {key: {**known.get(key, {}), **info}}

    if not isinstance(store, LocalDatastore):
        store.update_image_info(image, change(store.get_image_info(image)))
        return
    with FileLock(store._lock_file):
        written = Path(store._datastore_config_path)
        if written.exists():
            store._datastore = LocalDatastoreModel.model_validate_json(written.read_text(encoding="utf-8"))
            store._datastore.base_path = store._datastore_path
        if image in store._datastore.objects:
            known = store._datastore.objects[image].image.info
            known.update(change(known))
            store._update_datastore_file(lock=False)
