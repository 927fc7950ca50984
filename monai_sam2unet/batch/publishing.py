# SPDX-License-Identifier: Apache-2.0
"""Puts the results of a series in their place in one step, once they are whole and on the disk."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from monai_sam2unet.errors import DataError, UserError, causes
from monai_sam2unet.folders import sync_to_disk

__all__ = ["DiskFullError", "OutputFolder", "check_key", "is_disk_full", "sync_folder"]

PARTIAL = ".partial"
#: With less free space (bytes) than this an error of writing is taken for one of a full disk, whatever it says.
LITTLE_SPACE = 2**20
KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,199}")


class DiskFullError(UserError, OSError):
    """There is no room left where the results go."""


def is_disk_full(error: BaseException, folder: Path | None = None) -> bool:
    """Whether an error comes from a full disk, or one whose quota is used up.

    Args:
        error: with those that it was raised from.
        folder: that was written to: some libraries do not say why they could not write. None looks at the error only.
    """
    if any(isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT) for cause in causes(error)):
        return True
    try:
        return folder is not None and shutil.disk_usage(folder).free < LITTLE_SPACE
    except OSError:
        return False


def check_key(key: str) -> None:
    """Refuse a name that would lead out of the output folder, or hide in it.

    Args:
        key: name of a series' folder.

    Raises:
        DataError: When it is not made of letters, digits and ``._+-``, or does not begin with a letter or digit.
    """
    if KEY.fullmatch(key) is None:
        raise DataError(f"A series' folder cannot be named {key!r}: letters, digits and ._+- only, 200 at most.")


def sync_folder(folder: Path) -> tuple[str, ...]:
    """Have all of a folder written to the disk itself.

    Args:
        folder: which one.

    Returns:
        Names of its files at any depth, relative to it, with slashes, sorted.

    Raises:
        OSError: When the disk refuses.
    """
    names = []
    for parent, _, files in os.walk(folder, topdown=False):
        for name in files:
            sync_to_disk(Path(parent, name))
            names.append(Path(parent, name).relative_to(folder).as_posix())
        sync_to_disk(Path(parent))
    return tuple(sorted(names))


class OutputFolder:
    """An output folder: results of a series are in ``KEY``, and until they are whole in ``.partial/KEY-…``.

    Args:
        folder: the output folder; it exists.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        # Below the output folder, so that a rename need not copy.
        self.partials = self.folder / PARTIAL

    def new_partial(self, key: str) -> Path:
        """Make a fresh folder for the results of a series.

        Args:
            key: of the series.

        Raises:
            DataError: When the key cannot be a folder's name.
            OSError: When the folder cannot be made.
        """
        check_key(key)
        partial = self.partials / f"{key}-{secrets.token_hex(4)}"
        partial.mkdir(parents=True)
        return partial

    def write_partial(self, key: str, write: Callable[[Path], None]) -> tuple[Path, tuple[str, ...]]:
        """Write the results of a series into a fresh partial folder, and have them written to the disk itself.

        Args:
            key: of the series.
            write: writes them into a folder.

        Returns:
            The folder, and the names of the files in it. Where something is raised, the folder is gone.

        Raises:
            DataError: When the key cannot be a folder's name.
            DiskFullError: When there is no room.
            Exception: What ``write`` raises.
        """
        partial: Path | None = None
        try:
            partial = self.new_partial(key)
            write(partial)
            return partial, sync_folder(partial)
        except BaseException as error:
            full = is_disk_full(error, self.folder)
            if partial is not None:
                self.discard(partial)
            if full:
                raise DiskFullError(f"The disk of {self.folder} is full.") from error
            raise

    def publish(self, partial: Path, key: str, replace: bool = False) -> None:
        """Give results their name; they must be on the disk (:func:`sync_folder`).

        Args:
            partial: the folder that they are in.
            key: of the series.
            replace: whether a folder of that name may be there; it is removed.

        Raises:
            DataError: When there is something of that name that may not be replaced.
            OSError: When the folder cannot be renamed.
        """
        place = self.folder / key
        old: Path | None = None
        if place.exists() or place.is_symlink():
            if not replace:
                raise DataError(f"{place} is there already, and this run's journal does not know it. Move it away.")
            # Out of sight in one step, too: half of the old results is as bad as half of the new ones.
            old = place.rename(self.partials / f"{key}-old-{secrets.token_hex(4)}")
        partial.rename(place)
        sync_to_disk(self.partials)
        sync_to_disk(self.folder)
        if old is not None:
            self.discard(old)

    def missing(self, key: str, outputs: Sequence[str]) -> list[str]:
        """Which results of a series are not in their place.

        Args:
            key: of the series.
            outputs: names of its files.
        """
        place = self.folder / key
        if not place.is_dir():
            return list(outputs) or [key]
        return [name for name in outputs if not (place / name).is_file()]

    def clean(self) -> int:
        """Remove what unfinished work has left.

        Returns:
            How many folders were removed.
        """
        left = list(self.partials.iterdir()) if self.partials.is_dir() else []
        for path in left:
            self.discard(path)
        return len(left)

    def remove_partials(self) -> None:
        """Remove the folder of partial ones, where it is empty."""
        with suppress(OSError):
            self.partials.rmdir()

    @staticmethod
    def discard(partial: Path) -> None:
        """Remove a partial folder, as far as the system lets us; the next start removes what stays.

        Args:
            partial: the folder.
        """
        shutil.rmtree(partial, ignore_errors=True)
