# SPDX-License-Identifier: Apache-2.0
"""What there is to do: one series, or why one is left out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Refused", "SeriesJob"]


@dataclass(frozen=True)
class SeriesJob:
    """A series to be processed.

    Args:
        key: a safe folder name, unique in a run, derived from the SeriesInstanceUID.
        series_uid: SeriesInstanceUID.
        study_uid: StudyInstanceUID.
        modality: Modality, may be empty.
        description: SeriesDescription, may be empty.
        files: its files.
        slices: number of its frames.
        size_bytes: of its files together.
        archives: the zip archives among the parents of ``files``.
    """

    key: str
    series_uid: str
    study_uid: str
    modality: str
    description: str
    files: tuple[Path, ...]
    slices: int
    size_bytes: int
    archives: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Refused:
    """Something that is not processed.

    Args:
        source: the file, folder or series.
        reason: why it is not taken.
        series_uid: SeriesInstanceUID; empty where it is not known.
    """

    source: str
    reason: str
    series_uid: str = ""
