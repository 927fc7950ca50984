# SPDX-License-Identifier: Apache-2.0
"""Zip archives: headers are read in place, and files are unpacked for as long as their job is read."""

from __future__ import annotations

import lzma
import shutil
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from zipfile import BadZipFile, ZipFile, ZipInfo

from monai_sam2unet.batch.guards import check_directory, check_members, member_path, printable
from monai_sam2unet.batch.refused import RefusalKind, Refused
from monai_sam2unet.batch.sources.headers import BadFile, Header, NoImage, read_brief
from monai_sam2unet.dicom.series import HEAD, has_dicom_name, starts_as_dicom
from monai_sam2unet.errors import DataError

__all__ = ["ZIP_START", "scan_archive", "unpacked"]

ZIP_START = b"PK\x03\x04"
ENCRYPTED = 0x1
CHUNK = 2**20
#: What zipfile raises on archives that are damaged, encrypted, or of a method it does not know.
DAMAGE = (BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)


@contextmanager
def _opened(archive: Path) -> Iterator[tuple[ZipFile, dict[PurePosixPath, ZipInfo]]]:
    """An archive and its files by their place in it, checked."""
    name = printable(archive)
    try:
        with archive.open("rb") as file:
            check_directory(file, name)
            with ZipFile(file) as opened:
                members = [member for member in opened.infolist() if not member.is_dir()]
                check_members(members, name, archive.stat().st_size)
                by_path: dict[PurePosixPath, ZipInfo] = {}
                for member in members:
                    if by_path.setdefault(member_path(member, name), member) is not member:
                        raise DataError(f"{name} holds {printable(member.filename)!r} twice; it is not opened.")
                yield opened, by_path
    except (*DAMAGE, RuntimeError, UnicodeError, ValueError, OSError) as error:
        # bz2 raises an OSError as of a disk, but without its number.
        if isinstance(error, DataError) or getattr(error, "errno", None) is not None:
            raise
        raise DataError(f"{name} cannot be unpacked: {error}") from error


def scan_archive(archive: Path, strict: bool = True) -> list[Header | BadFile | NoImage | Refused]:
    """Read the headers of an archive's files.

    Args:
        archive: a zip file.
        strict: whether a file without File Meta Information cannot be read.

    Returns:
        One for each file. Archives within it are refused, and are not opened.
    """
    found: list[Header | BadFile | NoImage | Refused] = []
    try:
        with _opened(archive) as (opened, members):
            for path, member in sorted(members.items()):
                item = _scan_member(opened, member, archive / path, strict)
                found.append(replace(item, archive=archive) if isinstance(item, Header) else item)
    except DataError as error:
        # Nothing of an archive that cannot be trusted, or is not whole, is used.
        return [Refused(printable(archive), str(error), kind=RefusalKind.LOST)]
    return found


def _scan_member(opened: ZipFile, member: ZipInfo, path: Path, strict: bool) -> Header | BadFile | NoImage | Refused:
    if member.flag_bits & ENCRYPTED:
        return Refused(printable(path), "The file is encrypted; unpack its archive first.", kind=RefusalKind.LOST)
    try:
        with opened.open(member) as file:
            head = file.read(HEAD)
        if head.startswith(ZIP_START):
            told = "An archive in an archive is not opened; unpack it first."
            return Refused(printable(path), told, kind=RefusalKind.LOST)
        if not has_dicom_name(path) and not starts_as_dicom(head):
            return NoImage("not DICOM")
        with opened.open(member) as file:
            return read_brief(file, path, member.file_size, strict)  # type: ignore[arg-type]
    except (*DAMAGE, OSError) as error:
        return BadFile(path, f"{printable(path)} cannot be unpacked: {error}")


@contextmanager
def unpacked(files: Sequence[Path], archives: Sequence[Path], folder: Path) -> Iterator[tuple[Path, ...]]:
    """Unpack files for a while.

    Args:
        files: those in an archive as ARCHIVE/MEMBER; others are left where they are.
        archives: which parents of them are archives.
        folder: where to; it is emptied before and removed after. Names in it are numbers, not those in the archive.

    Yields:
        The files on the disk, in the order given.

    Raises:
        DataError: When an archive lacks one of the files, or is damaged.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        places, done = {file: file for file in files}, list[Path]()
        for archive in archives:
            inside = [file for file in files if archive in file.parents]
            with _opened(archive) as (opened, members):
                for file in inside:
                    member = members.get(PurePosixPath(file.relative_to(archive).as_posix()))
                    if member is None:
                        raise DataError(f"{printable(archive)} was changed: {printable(file.name)} is not in it now.")
                    places[file] = folder / f"{len(done):06d}.dcm"
                    done.append(places[file])
                    _unpack(opened, member, places[file])
        yield tuple(places.values())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unpack(opened: ZipFile, member: ZipInfo, target: Path) -> None:
    """Write a file, at most as long as the archive's directory says."""
    left = member.file_size
    with opened.open(member) as source, target.open("xb") as out:
        while data := source.read(min(CHUNK, left + 1)):
            left -= len(data)
            if left < 0:
                raise DataError(f"{printable(member.filename)} is longer than its archive says; it is not unpacked.")
            out.write(data)
    if left:
        raise DataError(f"{printable(member.filename)} is shorter than its archive says.")
