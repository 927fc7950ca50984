# SPDX-License-Identifier: Apache-2.0
"""Goes through a folder tree, a list or a DICOMDIR, and names the files in it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from monai_sam2unet.batch.guards import kind_of_file, printable
from monai_sam2unet.batch.refused import RefusalKind, Refused
from monai_sam2unet.batch.sources.headers import BadFile
from monai_sam2unet.dicom.series import dicomdir_files
from monai_sam2unet.errors import DataError

__all__ = ["files_of_dicomdir", "files_of_list", "files_of_tree"]


def files_of_tree(
    root: Path, passed_over: Counter[str], follow_links: bool = False
) -> Iterator[Path | BadFile | Refused]:
    """The files below a folder, folder by folder, in the order of their names.

    Args:
        root: the folder.
        passed_over: counts what is no file (pipes, devices, sockets), and linked folders.
        follow_links: whether links to folders are entered, and links to files outside ``root`` are followed.

    Yields:
        Files, and what cannot be read.
    """
    inside = root.resolve()
    entered = {inside}
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                names = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            yield Refused(printable(folder), f"The folder cannot be read: {error.strerror}.", kind=RefusalKind.LOST)
            continue
        below = []
        for entry in names:
            path = Path(entry.path)
            try:
                if entry.is_dir(follow_symlinks=False):
                    below.append(path)
                    continue
                kind = None if entry.is_file(follow_symlinks=False) else kind_of_file(path)
                linked_folder = entry.is_symlink() and entry.is_dir()
            except OSError as error:
                reason = "is a link that leads nowhere" if entry.is_symlink() else f"cannot be read: {error.strerror}"
                yield BadFile(path, f"{printable(path)} {reason}.")
                continue
            if kind is not None:
                passed_over[kind] += 1
            elif linked_folder:
                target = path.resolve()
                if follow_links and target not in entered:
                    entered.add(target)
                    below.append(path)
                else:
                    passed_over["a linked folder"] += 1
            elif entry.is_symlink() and not follow_links and inside not in path.resolve().parents:
                yield BadFile(path, f"{printable(path)} is a link out of the folder; with follow_links it is followed.")
            else:
                yield path
        folders += reversed(below)


def files_of_list(path: Path, text: bytes) -> Iterator[Path | BadFile]:
    """The files and folders that a text file names, one a line.

    Args:
        path: the list; names in it that are not absolute start at its folder.
        text: what it holds; empty lines and those that start with ``#`` are passed over.

    Yields:
        What it names, if it is there.
    """
    for number, line in enumerate(text.decode("utf-8-sig", "surrogateescape").splitlines(), start=1):
        name = line.strip()
        if not name or name.startswith("#"):
            continue
        target = path.parent / name
        try:
            # Asking for what it is also tells whether it is there.
            kind = kind_of_file(target)
        except (OSError, ValueError):
            kind = "not there"
        if kind is None:
            yield target
        else:
            yield BadFile(target, f"{printable(target)}, named in line {number} of {printable(path)}, is {kind}.")


def files_of_dicomdir(path: Path) -> Iterator[Path | BadFile | Refused]:
    """The files that a DICOMDIR names.

    Args:
        path: the DICOMDIR.

    Yields:
        The files, if they are there.
    """
    try:
        files = dicomdir_files(path)
    except DataError as error:
        yield Refused(printable(path), str(error), kind=RefusalKind.LOST)
        return
    for file in files:
        yield (
            file if file.is_file() else BadFile(file, f"{printable(path)} names {printable(file)}, which is not there.")
        )
