# SPDX-License-Identifier: Apache-2.0
"""What is known of images that are not kept here, in a JSON file that several processes write."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from monai_sam2unet.errors import DataError
from monai_sam2unet.folders import whole_file

__all__ = ["ImageNotes"]


def _merged(known: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Dictionaries are added to, all else is replaced."""
    found = dict(known)
    for key, value in more.items():
        before = found.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            found[key] = _merged(before, value)
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
        with FileLock(self.path.with_name(f".{self.path.name}.lock")):
            notes = self._read()
            notes = {**notes, image: _merged(notes.get(image, {}), info)}
            with whole_file(self.path) as path:
                path.write_text(json.dumps(notes, indent=1), encoding="utf-8")
