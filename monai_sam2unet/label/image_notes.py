# SPDX-License-Identifier: Apache-2.0
"""What is known of images that are not kept here, in a JSON file that several processes write."""

from __future__ import annotations

import copy
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from monai_sam2unet.errors import DataError
from monai_sam2unet.folders import whole_file

__all__ = ["EPISTEMIC", "REASON", "ImageNotes", "merged"]

#: Key of what is known of an image, below which each bundle has its score.
EPISTEMIC = "epistemic"
#: Key of what is known of a series: why no volume is made of it.
REASON = "reason"


def merged(known: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of an image, with more: dictionaries are added to, all else is replaced.

    Args:
        known: is not changed.
        more: what is added.
    """
    found = dict(known)
    for key, value in more.items():
        before = found.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            found[key] = merged(before, value)
        else:
            found[key] = value
    return found


class ImageNotes:
    """Notes on images, by their names.

    Args:
        path: the JSON file; it is made with the first note.

    Example:
        >>> from tempfile import mkdtemp
        >>> notes = ImageNotes(Path(mkdtemp()) / "notes.json")
        >>> notes.add("1.2.3", {"epistemic": {"heart": 1}})
        >>> notes.add("1.2.3", {"epistemic": {"liver": 2}})
        >>> notes.of("1.2.3")
        {'epistemic': {'heart': 1, 'liver': 2}}
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: tuple[Any, dict[str, dict[str, Any]]] = (None, {})

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            status = self.path.stat()
            version = status.st_ino, status.st_mtime_ns, status.st_size
            # It is asked for each image of a list, and seldom changes.
            if version != self._known[0]:
                content = json.loads(self.path.read_text(encoding="utf-8"))
                self._known = version, {image: dict(info) for image, info in content.items()}
            return self._known[1]
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise DataError(f"{self.path}, notes on images, cannot be read: {error!r}. Remove it.") from error

    def of(self, image: str) -> dict[str, Any]:
        """The notes on an image; empty: there are none.

        Args:
            image: its name.

        Raises:
            DataError: When the file cannot be read.
        """
        return copy.deepcopy(self._read().get(image, {}))

    def add(self, image: str, info: Mapping[str, Any]) -> None:
        """Add to the notes on an image.

        Args:
            image: its name.
            info: what is added; what dictionaries in it hold is added to those that there are.

        Raises:
            DataError: When the file cannot be read.
            OSError: When it cannot be written.
        """
        with self._lock():
            notes = self._read()
            self._write({**notes, image: merged(notes.get(image, {}), info)})

    def forget(self, image: str, keys: Collection[str]) -> None:
        """Remove notes on an image.

        Args:
            image: its name.
            keys: of the notes; there may be none of them.

        Raises:
            DataError: When the file cannot be read.
            OSError: When it cannot be written.
        """
        if not self._read().get(image, {}).keys() & set(keys):
            return
        with self._lock():
            notes = dict(self._read())
            left = {key: value for key, value in notes.pop(image, {}).items() if key not in keys}
            self._write(notes | ({image: left} if left else {}))

    def _lock(self) -> FileLock:
        return FileLock(self.path.with_name(f".{self.path.name}.lock"))

    def _write(self, notes: Mapping[str, Any]) -> None:
        with whole_file(self.path) as path:
            path.write_text(json.dumps(notes, indent=1), encoding="utf-8")
