# SPDX-License-Identifier: Apache-2.0
"""Folders for results, made and tried out before the work, so that none is lost for a wrong path."""

from __future__ import annotations

import tempfile
from pathlib import Path

__all__ = ["why_not_writable"]


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
