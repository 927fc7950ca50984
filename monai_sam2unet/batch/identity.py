# SPDX-License-Identifier: Apache-2.0
"""Keeps UIDs, and names of files and folders, out of what a run says of its series."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path

from monai_sam2unet.batch.guards import printable
from monai_sam2unet.batch.refused import Refused
from monai_sam2unet.batch.series_job import SeriesJob

__all__ = ["discreet", "discreet_refusal", "hashed_uid"]

#: Also behind other text, as in file names: CT.1.2.840.
UID = re.compile(r"\d+(?:\.\d+){5,}")
#: Absolute paths: to the end of the quotation, else of the word; names of folders may hold blanks.
PATHS = re.compile(
    r"""(["'])(?:[A-Za-z]:)?[/\\].*?\1|(?<![\w.:/\\])(?:[A-Za-z]:\\|/)(?:[^/\\\n,;:]+[/\\])*[^\s,;:]*[^\s,;:.)]"""
)


def hashed_uid(uid: str) -> str:
    """A short name that stands for a UID: who has the UID can tell that it is the same.

    Args:
        uid: the UID.

    Example:
        >>> hashed_uid("1.2.826.0.1.3680043.8.498.1")
        '#6dadc91b85'
    """
    return f"#{sha256(uid.encode()).hexdigest()[:10]}"


def discreet(text: str, job: SeriesJob | None = None, hide_paths: bool = False) -> str:
    """A text without UIDs, and without the names of a series' files and their folders.

    Args:
        text: what is to be said.
        job: the series that it is about; None where it is about none.
        hide_paths: whether all other absolute paths are left out, too, as far as they can be told from other words.

    Example:
        >>> discreet("1.2.826.0.1.3680043.8.498.1 has no pixels")
        '#6dadc91b85 has no pixels'
    """
    if job is not None and text:
        names: dict[str, str] = {}
        for number, file in enumerate(job.files, start=1):
            # A file of an archive is unpacked elsewhere under the name that it has in there.
            inside = [file.relative_to(archive) for archive in job.archives if archive in file.parents]
            for path in (file, *inside):
                names |= {str(path): f"file {number} of {len(job.files)}", str(path.parent): "its folder"}
        names |= {str(archive): "its archive" for archive in job.archives}
        names |= {printable(name): shown for name, shown in names.items()}
        # A whole path first, then its parts.
        for name in sorted(names, key=len, reverse=True):
            if name not in (".", "/"):
                text = text.replace(name, names[name])
    if hide_paths:
        text = PATHS.sub("(a path)", text)
    return UID.sub(lambda found: hashed_uid(found[0]), text)


def discreet_refusal(refused: Refused) -> str:
    """Why something is not processed, without its name, other paths, and those of its files, which further lines list.

    Args:
        refused: what it is.

    Example:
        >>> discreet_refusal(Refused("/scans/DOE/1.txt", "/scans/DOE/1.txt is no image."))
        'it is no image.'
    """
    text = refused.reason.replace(refused.source, "it").partition("\n")[0]
    # Its folders first: where names hold blanks, they cannot be found in a text otherwise.
    for folder in map(str, Path(refused.source).parents):
        if folder not in (".", "/"):
            text = text.replace(f"{folder}/", "its folder/")
    return discreet(text, hide_paths=True)
