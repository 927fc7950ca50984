# SPDX-License-Identifier: Apache-2.0
"""The file of a journal: its table, and reading it from outside the run."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from monai_sam2unet.batch.journal_row import JournalRow
from monai_sam2unet.errors import UserError

__all__ = ["FILE_NAME", "SCHEMA", "VERSION", "JournalError", "check_journal_file", "read_journal"]

FILE_NAME = "journal.sqlite"
VERSION = 1
SCHEMA = """
CREATE TABLE IF NOT EXISTS series (
    key TEXT PRIMARY KEY, state TEXT NOT NULL, source TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '',
    shown_reason TEXT NOT NULL DEFAULT '',
    series_uid TEXT NOT NULL DEFAULT '', modality TEXT NOT NULL DEFAULT '', description TEXT NOT NULL DEFAULT '',
    slices INTEGER NOT NULL DEFAULT 0, size_bytes INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0, published INTEGER NOT NULL DEFAULT 0,
    started_at REAL, finished_at REAL, read_s REAL, predict_s REAL, write_s REAL,
    outputs TEXT NOT NULL DEFAULT '[]', notes TEXT NOT NULL DEFAULT '[]', partial TEXT NOT NULL DEFAULT ''
);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


class JournalError(UserError, OSError):
    """The journal could not be written or read."""


def check_journal_file(path: Path) -> None:
    """Refuse what another program, or another version of this one, has made.

    Args:
        path: the file.

    Raises:
        JournalError: When it is no journal of this version.
    """
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True)) as database:
            version = database.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.Error as error:
        raise JournalError(
            f"{path} cannot be read as a journal: {error}. Give another output folder, or move this one away."
        ) from error
    if version not in (0, VERSION):
        raise JournalError(
            f"{path} is a journal of version {version}, this program writes version {VERSION}. Go on with the program "
            "that made it, or give another output folder."
        )


def read_journal(folder: str | Path) -> list[JournalRow]:
    """The rows of an output folder's journal, also while a program works there; none of one that is being made.

    Args:
        folder: the output folder.

    Raises:
        JournalError: When there is no journal, or it cannot be read.
    """
    path = Path(folder) / FILE_NAME
    if not path.is_file():
        raise JournalError(f"There is no journal {path}.")
    check_journal_file(path)
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=60)) as database:
            # A program that was killed, or read, while it began has a file and no tables yet.
            if not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                return []
            database.row_factory = sqlite3.Row
            return [JournalRow.of(row) for row in database.execute("SELECT * FROM series ORDER BY rowid")]
    except sqlite3.Error as error:
        raise JournalError(f"The journal {path} cannot be read: {error}.") from error
