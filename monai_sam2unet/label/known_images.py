# SPDX-License-Identifier: Apache-2.0
"""Keeps what was computed of the images that were asked for last, so that the next click need not wait for it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_sam2unet.inferers import InteractiveRefiner

__all__ = ["KnownImage", "KnownImages", "file_version"]

#: Memory that is kept, unless a single image takes more.
MAX_BYTES = 2 * 2**30


def file_version(path: str) -> Hashable:
    """Differs when a file, or one in a folder, was written anew."""
    place = Path(path)
    files = sorted(place.iterdir()) if place.is_dir() else [place]
    return path, tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files)


@dataclass(frozen=True)
class KnownImage:
    """One image with its probabilities.

    Args:
        refiner: makes masks of it.
        case: the transforms' entries that say how the image lies in space.
    """

    refiner: InteractiveRefiner
    case: dict[str, Any]


@dataclass
class KnownImages:
    """The images that were used last.

    Args:
        max_bytes: of them together; the last one is kept even if it takes more.

    Example:
        >>> images = KnownImages()
        >>> images.get("heart1") is None
        True
    """

    max_bytes: int = MAX_BYTES
    _kept: OrderedDict[Hashable, KnownImage] = field(default_factory=OrderedDict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def get(self, key: Hashable) -> KnownImage | None:
        """The image, if it is known."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                # Marks have been added since.
                self._forget()
            return self._kept.get(key)

    def add(self, key: Hashable, image: KnownImage) -> None:
        """Keep an image, and forget the one used longest ago where memory is short."""
        with self._lock:
            self._kept[key] = image
            self._forget()

    def _forget(self) -> None:
        while len(self._kept) > 1 and sum(one.refiner.nbytes for one in self._kept.values()) > self.max_bytes:
            self._kept.popitem(last=False)
