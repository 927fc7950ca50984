# SPDX-License-Identifier: Apache-2.0
"""What the datastore knows of an image, written by several processes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock
from monailabel.datastore.local import LocalDatastore, LocalDatastoreModel
from monailabel.interfaces.datastore import Datastore

from monai_sam2unet.label.dicomweb_store import DicomwebStore

__all__ = ["update_image_info"]


def update_image_info(store: Datastore, image: str, info: Mapping[str, Any], key: str | None = None) -> None:
    """Add to an image's information without undoing what another process wrote meanwhile.

    MONAI Label's local datastore writes its whole list as it last read it, so that a scoring beside the server could
    drop a label that came in since.

    Args:
        store: the studies.
        image: its name; nothing is done when it has been removed from a folder.
        info: what is added.
        key: of the dictionary, in the information, that it is added to; None: to the information itself.

    Raises:
        ImageNotFoundException: When a PACS does not list it.
        TransferError: When the PACS does not answer.
    """

    def change(known: Mapping[str, Any]) -> dict[str, Any]:
        return dict(info) if key is None else {key: {**known.get(key, {}), **info}}

    written = Path(store._datastore_config_path) if isinstance(store, LocalDatastore) else None
    if written is None or not written.exists():
        store.update_image_info(image, change(store.get_image_info(image)))
        return
    # Nothing of the store is called meanwhile: what it locks itself, it locks before the file.
    with FileLock(store._lock_file):
        model = LocalDatastoreModel.model_validate_json(written.read_text(encoding="utf-8"))
        kept = model.objects.get(image)
        if kept is not None:
            kept.image.info.update(change(kept.image.info))
            content = json.dumps(model.model_dump(exclude={"base_path"}), indent=2, default=str)
            written.write_text(content, encoding="utf-8")
    store._init_from_datastore_file()
    if kept is None and isinstance(store, DicomwebStore):
        store.update_image_info(image, change({}))
