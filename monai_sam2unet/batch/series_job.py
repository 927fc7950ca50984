# SPDX-License-Identifier: Apache-2.0
"""One series to work on, and one that is left out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

__all__ = ["Refused", "SeriesFiles", "SeriesJob", "series_key"]


class SeriesFiles(Protocol):
    """Files of a series that are brought for its job, and let go after it. It can be pickled."""

    def retrieve(self) -> tuple[Path, ...]:
        """Bring the files of the series to this machine, and say where they are."""

    def release(self, done: bool) -> None:
        """Let the files go, since the job is over.

        Args:
            done: whether it succeeded; else it may be tried again later.
        """


@dataclass(frozen=True)
class SeriesJob:
    """One series to work on.

    Args:
        key: name of a folder for it, unique in a run, derived from the SeriesInstanceUID.
        series_uid: SeriesInstanceUID.
        study_uid: StudyInstanceUID, may be empty.
        modality: Modality, may be empty.
        description: SeriesDescription, may be empty.
        files: where its images are; empty where ``fetch`` brings them.
        slices: how many images it has.
        size_bytes: how large its files are together; 0 where that is not known.
        fetch: brings the files, for a series that lies elsewhere; None where ``files`` are all there is to it.
    """

    key: str
    series_uid: str
    study_uid: str
    modality: str
    description: str
    files: tuple[Path, ...]
    slices: int
    size_bytes: int
    fetch: SeriesFiles | None = None


@dataclass(frozen=True)
class Refused:
    """A series or file that is left out.

    Args:
        source: which one.
        reason: why.
    """

    source: str
    reason: str


def series_key(series_uid: str) -> str:
    """A folder's name for a series.

    Args:
        series_uid: SeriesInstanceUID.
    """
    return hashlib.sha256(series_uid.encode()).hexdigest()[:16]
