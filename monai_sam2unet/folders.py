# SPDX-License-Identifier: Apache-2.0
"""Folders for results, tried out before the work, and files that are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["sync_to_disk", "whole_file", "why_not_writable"]


def why_not_writable(folder: Path) -> str | None:
    """Make a folder and write a temporary file to it.

    Args:
        folder: which one; it may exist.

    Returns:
        Why files cannot be written to it: it is a file, cannot be made, or refuses them. None where they can.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Permissions alone do not tell: a disk may be mounted for reading only.
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return error.strerror or str(error)


def sync_to_disk(path: Path) -> None:
    """Have a file, or the names in a folder, written to the disk itself; Windows cannot do so with folders.

    Args:
        path: the file or folder.

    Raises:
        OSError: When the disk refuses.
    """
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path to write to; the file takes its place when all went well, with any files written beside it.

    Args:
        path: where the file shall be. One that is there already stays as it is until the end.
    """
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        yield Path(folder) / path.name
        # The file itself comes last: where there was none before, who finds it finds all that belongs to it.
        for file in sorted(Path(folder).iterdir(), key=lambda file: file.name == path.name):
            sync_to_disk(file)
            file.replace(path.parent / file.name)
    sync_to_disk(path.parent)
