# SPDX-License-Identifier: Apache-2.0
"""Bounds on what a source may hold: archives that would fill the disk, names that lead elsewhere, files that are none.

What single DICOM files may ask for is bounded where they are read, in :mod:`monai_sam2unet.dicom`.
"""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from zipfile import ZipInfo

from monai_sam2unet.errors import DataError

__all__ = ["check_directory", "check_members", "kind_of_file", "member_path", "printable"]

#: Size of an archive's directory (bytes): Python holds all of it, about 10 times as large.
MAX_DIRECTORY = 32 * 2**20
#: Files of one archive.
MAX_MEMBERS = 200_000
#: Size of an archive's files (bytes) that is always allowed, how often the archive's own size beyond it, and at most.
SMALL_ARCHIVE = 2**30
MAX_ARCHIVE_GROWTH = 200
MAX_UNPACKED = 128 * 2**30
#: Characters of a name that are shown.
MAX_SHOWN = 500
END_OF_DIRECTORY, END_OF_DIRECTORY_64 = b"PK\x05\x06", b"PK\x06\x06"
SPECIAL = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def printable(text: str | os.PathLike[str], limit: int = MAX_SHOWN) -> str:
    r"""A name or text that every terminal, log and file takes.

    Args:
        text: of any kind: names of files may be no UTF-8, and texts in DICOM may hold control characters.
        limit: of more characters the first and last are kept.

    Returns:
        The text with all that is not printable escaped.

    Example:
        >>> printable("CT\n\x1b[31mthorax")
        'CT\\n\\x1b[31mthorax'
    """
    name = os.fspath(text)
    if len(name) > limit:
        name = f"{name[: limit // 2]}...{name[-limit // 2 :]}"
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in name)


def kind_of_file(path: Path) -> str | None:
    """What a path is if it is neither a file nor a folder, else None; it is not opened, and links are followed.

    Args:
        path: where to look.

    Raises:
        OSError: When there is nothing.
    """
    return SPECIAL.get(stat.S_IFMT(path.stat().st_mode))


def check_directory(file: BinaryIO, name: object) -> None:
    """A zip archive's directory is of a size that can be held.

    Args:
        file: the archive.
        name: the archive, for the error's text.

    Raises:
        DataError: When it is larger, or there is none (the archive is cut off).
    """
    size = file.seek(0, os.SEEK_END)
    start = max(0, size - 2**16 - 100)
    file.seek(start)
    tail = file.read(2**16 + 100)
    end, end_64 = tail.rfind(END_OF_DIRECTORY), tail.rfind(END_OF_DIRECTORY_64)
    if end < 0 or len(tail) < end + 22:
        raise DataError(f"{name} is no whole zip archive: it has no directory at its end.")
    (directory,) = struct.unpack_from("<L", tail, end + 12)
    if end_64 >= 0 and len(tail) >= end_64 + 48:
        directory = max(directory % 0xFFFFFFFF, *struct.unpack_from("<Q", tail, end_64 + 40))
    if directory > MAX_DIRECTORY:
        raise DataError(f"{name} has a directory of {directory:,} bytes, at most {MAX_DIRECTORY:,} are read.")
    file.seek(0)


def member_path(member: ZipInfo, name: object) -> PurePosixPath:
    """Where a file of an archive lies in it.

    Args:
        member: the file; backslashes part folders, as some writers have it.
        name: the archive, for the error's text.

    Raises:
        DataError: When its name leads out of the archive, or it is a link.
    """
    text = member.filename.replace("\\", "/")
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or "\0" in text or (path.parts and ":" in path.parts[0]):
        raise DataError(f"{name} holds a file whose name leads elsewhere, {printable(text, 100)!r}; it is not opened.")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise DataError(f"{name} holds a link, {printable(text, 100)!r}; it is not opened.")
    return path


def check_members(members: list[ZipInfo], name: object, size: int) -> None:
    """What an archive unpacks to goes with its size.

    Args:
        members: its files.
        name: the archive, for the error's text.
        size: of the archive, in bytes.

    Raises:
        DataError: When there are too many files, they are too large, or they lie over one another.
    """
    if len(members) > MAX_MEMBERS:
        raise DataError(f"{name} holds {len(members):,} files, at most {MAX_MEMBERS:,} are opened.")
    total = sum(member.file_size for member in members)
    limit = min(MAX_UNPACKED, max(SMALL_ARCHIVE, MAX_ARCHIVE_GROWTH * size))
    if total > limit:
        raise DataError(
            f"{name} of {size:,} bytes would unpack to {total:,}, at most {limit:,} are allowed; it is not opened."
        )
    if sum(member.compress_size for member in members) > size:
        raise DataError(f"{name} holds files that lie over one another; it is not opened.")
