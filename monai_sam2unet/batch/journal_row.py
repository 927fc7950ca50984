# SPDX-License-Identifier: Apache-2.0
"""What a journal says of one series."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass, fields
from enum import Enum

from monai_sam2unet.batch.identity import hashed_uid

__all__ = ["REFUSED", "SKIPPED", "JournalRow", "State"]

#: How keys of what was left, and of what is lost, begin; no series' key begins so.
SKIPPED, REFUSED = "skipped-", "refused-"


class State(str, Enum):
    """Where a series stands."""

    FOUND = "found"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class JournalRow:
    """One series of a journal.

    Args:
        key: name of its folder in the output folder. Those that were not taken have a key, but no folder: it begins
            with ``skipped-``, or with ``refused-`` where they are damaged or incomplete.
        state: where it stands.
        source: folder of its files, or what was not taken.
        reason: why it failed or was skipped; else empty.
        shown_reason: the same without UIDs, names of files, and what faults of the program quote.
        series_uid: SeriesInstanceUID.
        modality: Modality.
        description: SeriesDescription.
        slices: number of its frames.
        size_bytes: of its files.
        attempts: how often it was begun.
        published: how often its results were put in their place.
        started_at: when it was begun last, in seconds since 1970; None before.
        finished_at: when it was done, or failed; None before.
        read_s: seconds that reading took the last time; None before.
        predict_s: seconds of prediction; those of several series predicted together are shared out evenly.
        write_s: seconds of writing.
        outputs: its files, relative to its folder.
        notes: what is to be known of how they were made.
        partial: name of the folder that holds its results while they get their place; else empty.
    """

    key: str
    state: State
    source: str
    reason: str
    shown_reason: str
    series_uid: str
    modality: str
    description: str
    slices: int
    size_bytes: int
    attempts: int
    published: int
    started_at: float | None
    finished_at: float | None
    read_s: float | None
    predict_s: float | None
    write_s: float | None
    outputs: tuple[str, ...]
    notes: tuple[str, ...]
    partial: str

    @property
    def shown_name(self) -> str:
        """Its key; of what was not taken with a hash of the series' UID, where that is known."""
        is_refused = self.key.startswith((SKIPPED, REFUSED)) and self.series_uid
        return f"{self.key} (series {hashed_uid(self.series_uid)})" if is_refused else self.key

    @classmethod
    def of(cls, row: sqlite3.Row) -> JournalRow:
        """Take a row of the table as it is stored.

        Args:
            row: with the fields' names.
        """
        stored = {name: row[name] for name in cls.names()}
        for name in ("outputs", "notes"):
            stored[name] = tuple(json.loads(stored[name]))
        return cls(**{**stored, "state": State(stored["state"])})

    @classmethod
    def names(cls) -> list[str]:
        """The fields' names."""
        return [item.name for item in fields(cls)]
