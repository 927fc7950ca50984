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


def update_image_info(store: Datastore, image: str, info: Mapping[str, Any]) -> None:
    """Add to an image's information without undoing what another process wrote meanwhile.

    MONAI Label's local datastore writes its whole list as it last read it, so that a scoring beside the server could
    drop a label that came in since.

    Args:
        store: the studies.
        image: its name.
        info: what is added.
    """
    if not isinstance(store, LocalDatastore):
        store.update_image_info(image, dict(info))
        return
    with FileLock(store._lock_file):
        written = Path(store._datastore_config_path)
        if written.exists():
            store._datastore = LocalDatastoreModel.model_validate_json(written.read_text(encoding="utf-8"))
            store._datastore.base_path = store._datastore_path
        # An image may have been removed.
        if image in store._datastore.objects:
            store._datastore.objects[image].image.info.update(info)
            store._update_datastore_file(lock=False)
