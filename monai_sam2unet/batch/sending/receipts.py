# SPDX-License-Identifier: Apache-2.0
"""Which files another side has confirmed, kept in a file, so that none is sent twice."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from monai_sam2unet.errors import DataError

__all__ = ["Receipts"]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Receipts:
    """Receipts for files, one a line of a JSON lines file; each is on the disk before it counts.

    A receipt holds where a file was sent, its name and its SHA-256: a file that was made anew is sent again.

    Args:
        path: the file; it is made with the first receipt.
        place: where files are sent, in words that stay the same from run to run.

    Raises:
        DataError: When a line is no receipt, but for a last one that was cut off.
    """

    def __init__(self, path: Path, place: str) -> None:
        self.path = path
        self.place = place
        self._held: set[tuple[str, str, str]] = set()
        content = path.read_bytes() if path.exists() else b""
        # What follows the last end of a line was cut off, as by a loss of power, and is written over.
        self._end = content.rfind(b"\n") + 1
        for number, line in enumerate(content[: self._end].splitlines(), 1):
            try:
                receipt = json.loads(line)
                self._held.add((receipt["place"], receipt["file"], receipt["sha256"]))
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(f"{path}, line {number}: this is no receipt of a file that was sent.") from error

    def has(self, file: Path) -> bool:
        """Whether a file, as it is now, was confirmed.

        Args:
            file: which one.
        """
        return (self.place, file.name, _digest(file)) in self._held

    def add(self, file: Path) -> None:
        """Note that a file was confirmed.

        Args:
            file: which one.

        Raises:
            OSError: When that cannot be written.
        """
        receipt = {"place": self.place, "file": file.name, "sha256": _digest(file)}
        self.path.touch()
        with self.path.open("r+b") as lines:
            lines.seek(self._end)
            lines.truncate()
            lines.write(json.dumps(receipt).encode() + b"\n")
            lines.flush()
            os.fsync(lines.fileno())
            self._end = lines.tell()
        self._held.add((receipt["place"], receipt["file"], receipt["sha256"]))
