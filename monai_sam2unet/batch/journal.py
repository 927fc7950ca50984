# SPDX-License-Identifier: Apache-2.0
"""The journal of a run: what is known of each series, kept in a file that a killed program cannot spoil."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from monai_sam2unet.batch.identity import discreet_refusal
from monai_sam2unet.batch.journal_file import FILE_NAME, SCHEMA, VERSION, JournalError, check_journal_file
from monai_sam2unet.batch.journal_row import REFUSED, SKIPPED, JournalRow, State
from monai_sam2unet.batch.refused import RefusalKind, Refused
from monai_sam2unet.errors import ConfigError, listing
from monai_sam2unet.folders import why_not_writable

if TYPE_CHECKING:
    from monai_sam2unet.batch.series_job import SeriesJob

__all__ = ["Journal", "JournalError"]


def _difference(name: str, before: Mapping[str, str], now: Mapping[str, str]) -> str:
    return f"{name}: {before.get(name, 'not given')} there, {now.get(name, 'not given')} now"


def _text(value: str) -> str:
    # Names of files may hold bytes that are no text; SQLite refuses these.
    return value.encode("utf-8", "backslashreplace").decode("utf-8")


class Journal:
    """Each series' state, in an SQLite file in the output folder; of any thread, but of one program at a time.

    What a method notes is on the disk when it returns (``synchronous=FULL``), but for :meth:`found` and
    :meth:`skip`: what these note is found again by who starts anew, so it goes to the disk with what comes next.

    Args:
        folder: the output folder; it is made.
        made_with: what the results depend on, such as the bundle's hash and the options: JSON values by name. Who
            goes on in a folder must give the same.

    Raises:
        ConfigError: When the folder cannot be written to, another program works in it, or what is there was made with
            something else; the text lists what differs.
        JournalError: When the file is no journal, or cannot be written.
    """

    def __init__(self, folder: str | Path, made_with: Mapping[str, Any] | None = None) -> None:
        folder = Path(folder)
        self.path = folder / FILE_NAME
        reason = why_not_writable(folder)
        if reason is not None:
            raise ConfigError(f"The output folder {folder} cannot be written to: {reason}. Give another one.")
        self._mutex = threading.RLock()
        # Not SQLite's own lock: others may read the journal while it is written.
        self._lock = FileLock(folder / ".journal.lock", timeout=0, thread_local=False)
        try:
            self._lock.acquire()
        except Timeout:
            raise ConfigError(
                f"Another program works in {folder}{self._holder()}. Wait for its end, or give another output folder."
            ) from None
        except (OSError, NotImplementedError) as error:
            raise ConfigError(f"{folder} cannot be locked for one program: {error}. Give another folder.") from error
        self._database: sqlite3.Connection | None = None
        try:
            self._open({name: json.dumps(value, sort_keys=True) for name, value in (made_with or {}).items()})
        except BaseException:
            self.close()
            raise

    def _open(self, made_with: Mapping[str, str]) -> None:
        is_new = not self.path.exists()
        if not is_new:
            check_journal_file(self.path)
        self._database = sqlite3.connect(self.path, timeout=60, check_same_thread=False)
        self._database.row_factory = sqlite3.Row
        with self._transaction() as database:
            # No write-ahead log: it needs shared memory, which network file systems do not have.
            database.execute("PRAGMA journal_mode=TRUNCATE")
            database.execute("PRAGMA synchronous=FULL")
            database.executescript(SCHEMA)
            database.execute(f"PRAGMA user_version={VERSION}")
            before = {row["name"]: row["value"] for row in database.execute("SELECT * FROM facts WHERE name LIKE '=%'")}
            now = {f"={name}": value for name, value in made_with.items()}
            if not self._has_rows(database):
                database.execute("DELETE FROM facts WHERE name LIKE '=%'")
                database.executemany("INSERT INTO facts VALUES (?, ?)", now.items())
            elif before != now:
                before, now = ({name[1:]: value for name, value in facts.items()} for facts in (before, now))
                differing = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
                raise ConfigError(
                    f"{self.path.parent} holds results that were made with other settings:\n"
                    f"{listing([_difference(name, before, now) for name in differing], limit=30)}\n"
                    "Give those settings to go on there, or another output folder."
                )
            told = f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}"
            database.execute("INSERT OR REPLACE INTO facts VALUES ('holder', ?)", [told])

    @staticmethod
    def _has_rows(database: sqlite3.Connection) -> bool:
        return database.execute("SELECT 1 FROM series LIMIT 1").fetchone() is not None

    def _holder(self) -> str:
        try:
            with closing(sqlite3.connect(f"{self.path.resolve().as_uri()}?mode=rw", uri=True)) as database:
                return f" ({database.execute('SELECT value FROM facts WHERE name = ?', ['holder']).fetchone()[0]})"
        except (sqlite3.Error, TypeError):
            return ""

    @contextmanager
    def _transaction(self, commit: bool = True) -> Iterator[sqlite3.Connection]:
        with self._mutex:
            if self._database is None:
                raise JournalError(f"The journal {self.path} is closed.")
            try:
                yield self._database
                if commit:
                    self._database.commit()
            except sqlite3.Error as error:
                if self._database.in_transaction:
                    self._database.rollback()
                raise JournalError(
                    f"The journal {self.path} cannot be written: {error}. Mend that, and give the same command again: "
                    "it goes on."
                ) from error

    def _set(self, key: str, **values: Any) -> None:
        names = ", ".join(f"{name} = ?" for name in values)
        with self._transaction() as database:
            database.execute(f"UPDATE series SET {names} WHERE key = ?", [*values.values(), key])

    def found(self, job: SeriesJob) -> None:
        """Note a series that is to be done, for the first time or once more."""
        source = str(job.files[0].parent) if job.files else ""
        with self._transaction(commit=False) as database:
            database.execute(
                "INSERT INTO series (key, state, source, series_uid, modality, description, slices, size_bytes) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET state = excluded.state, "
                "source = excluded.source, reason = '', shown_reason = '', slices = excluded.slices, "
                "size_bytes = excluded.size_bytes",
                [
                    *(job.key, State.FOUND.value, _text(source), job.series_uid),
                    *(_text(job.modality), _text(job.description), job.slices, job.size_bytes),
                ],
            )

    def skip(self, refused: Refused) -> str:
        """Note what is not taken, and why; the last reason counts. What is lost counts as failed.

        Args:
            refused: what it is.

        Returns:
            The key that it has got.
        """
        state = State.FAILED if refused.kind is RefusalKind.LOST else State.SKIPPED
        prefix = REFUSED if state is State.FAILED else SKIPPED
        key = f"{prefix}{sha256(refused.source.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}"
        with self._transaction(commit=False) as database:
            database.execute(
                "INSERT INTO series (key, state, source, series_uid, reason, shown_reason) VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (key) DO UPDATE SET reason = excluded.reason, shown_reason = excluded.shown_reason",
                [
                    *(key, state.value, _text(refused.source), _text(refused.series_uid)),
                    *(_text(refused.reason), _text(discreet_refusal(refused))),
                ],
            )
        return key

    def forget_refused(self) -> None:
        """Forget what earlier runs did not take: what this run finds counts."""
        with self._transaction() as database:
            for prefix in (SKIPPED, REFUSED):
                database.execute("DELETE FROM series WHERE key LIKE ?", [f"{prefix}%"])

    def start(self, key: str) -> None:
        """Note that a series is in hand from now on."""
        with self._transaction() as database:
            database.execute(
                "UPDATE series SET state = ?, attempts = attempts + 1, started_at = ?, finished_at = NULL, "
                "reason = '', shown_reason = '', outputs = '[]', notes = '[]', partial = '' WHERE key = ?",
                [State.RUNNING.value, time.time(), key],
            )

    def ready(
        self, key: str, partial: str, outputs: Sequence[str], seconds: Sequence[float], notes: Sequence[str] = ()
    ) -> None:
        """Note that a series' results are whole and safe on the disk, and get their place and name next.

        Args:
            key: of the series.
            partial: name of the folder that they are in.
            outputs: their names below it.
            seconds: taken to read, predict and write.
            notes: what is to be known of how they were made, such as that the GPU's memory was too small.
        """
        times = dict(zip(("read_s", "predict_s", "write_s"), seconds, strict=True))
        self._set(key, partial=partial, outputs=json.dumps(list(outputs)), notes=json.dumps(list(notes)), **times)

    def done(self, key: str) -> None:
        """Note that a series' results are in their place."""
        with self._transaction() as database:
            database.execute(
                "UPDATE series SET state = ?, published = published + 1, finished_at = ?, reason = '', partial = '' "
                "WHERE key = ?",
                [State.DONE.value, time.time(), key],
            )

    def fail(self, key: str, reason: str, shown_reason: str = "") -> None:
        """Note that a series cannot be done.

        Args:
            key: of the series.
            reason: why.
            shown_reason: the same without identity.
        """
        reasons = {"reason": _text(reason), "shown_reason": _text(shown_reason)}
        self._set(key, state=State.FAILED.value, finished_at=time.time(), partial="", **reasons)

    def row(self, key: str) -> JournalRow | None:
        """What is known of a series; None where it is not known at all."""
        with self._transaction(commit=False) as database:
            found = database.execute("SELECT * FROM series WHERE key = ?", [key]).fetchone()
        return None if found is None else JournalRow.of(found)

    def rows(self) -> list[JournalRow]:
        """All series, in the order in which they were found first."""
        with self._transaction(commit=False) as database:
            return [JournalRow.of(row) for row in database.execute("SELECT * FROM series ORDER BY rowid")]

    def close(self) -> None:
        """Let another program take the journal. What is in hand waits from now on; closing twice is no mistake."""
        with self._mutex:
            try:
                if self._database is not None:
                    with self._database:
                        waits, in_hand = State.FOUND.value, State.RUNNING.value
                        self._database.execute("UPDATE series SET state = ? WHERE state = ?", [waits, in_hand])
            except sqlite3.Error:
                pass  # a full disk: who starts anew takes what was in hand as well
            finally:
                if self._database is not None:
                    self._database.close()
                self._database = None
                self._lock.release()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
