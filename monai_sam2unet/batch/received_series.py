# SPDX-License-Identifier: Apache-2.0
"""Received images on disk, by series, with what of each series was worked on: no power cut loses a confirmed one."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from monai_sam2unet.batch.series_job import series_key
from monai_sam2unet.errors import DataError

__all__ = ["Inbox", "InboxFull", "ReceivedSeries"]

#: Files that are still being written. What is here after a start was never confirmed.
UNFINISHED = "unfinished"
#: What of a series was worked on.
STATE = "state.json"


class InboxFull(OSError):
    """The inbox may not grow further."""


def _sync(folder: Path) -> None:
    """Make sure that names that were made in a folder are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_safely(path: Path, content: bytes, beside: Path) -> None:
    """Write a file so that it is there whole or, after a power cut, not at all."""
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    _sync(path.parent)


@dataclass(frozen=True)
class State:
    """What of a series was worked on, by the names of its files.

    Args:
        job: those of the job that is out; empty where none is.
        done: those that were worked on.
        failed: those of a job that failed.
    """

    job: frozenset[str] = frozenset()
    done: frozenset[str] = frozenset()
    failed: frozenset[str] = frozenset()

    @classmethod
    def of(cls, folder: Path) -> State:
        """Read the state of a series.

        Args:
            folder: the series'.
        """
        try:
            read = json.loads((folder / STATE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return cls()
        return cls(*(frozenset(read[name]) for name in ("job", "done", "failed")))

    def save(self, folder: Path) -> None:
        """Write the state of a series.

        Args:
            folder: the series'.
        """
        content = {"job": sorted(self.job), "done": sorted(self.done), "failed": sorted(self.failed)}
        _write_safely(folder / STATE, json.dumps(content).encode(), folder / f"{STATE}.unfinished")


@dataclass(frozen=True)
class ReceivedSeries:
    """The files of a job from an inbox.

    Args:
        folder: the series' in the inbox.
        names: its files.
    """

    folder: Path
    names: frozenset[str]

    def retrieve(self) -> tuple[Path, ...]:
        """The files, which are here already.

        Raises:
            DataError: When one is not there any more.
        """
        files = tuple(self.folder / name for name in sorted(self.names))
        gone = [file for file in files if not file.is_file()]
        if gone:
            raise DataError(f"{len(gone)} of {len(files)} received files are not in {self.folder} any more.")
        return files

    def release(self, done: bool) -> None:
        """Note that the series was worked on. Its files are removed some time later.

        Args:
            done: whether it succeeded. Else its files stay, and are a job again after a restart.
        """
        state = State.of(self.folder)
        if state.job != self.names:
            # It was released before, as where a killed run had come that far.
            return
        if done:
            state = State(done=state.done | self.names, failed=state.failed - self.names)
        else:
            state = State(done=state.done - self.names, failed=state.failed | self.names)
        state.save(self.folder)


class Inbox:
    """Received images on disk, a folder for each series.

    An image is written beside, brought to the disk, and renamed: it is there whole or not at all. What of a series was
    worked on is kept beside its images, in one file that is replaced as a whole.

    Args:
        folder: where; it is made, and what an earlier inbox there has received is taken up.
        max_bytes: bytes of images that it may hold; None for no limit but the disk's.

    Raises:
        DataError: When the state of a series in it cannot be read.
        OSError: When the folder cannot be made.
    """

    def __init__(self, folder: Path, max_bytes: int | None = None) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        self._unfinished = folder / UNFINISHED
        self._unfinished.mkdir(parents=True, exist_ok=True)
        for file in self._unfinished.iterdir():
            file.unlink()
        self._held = sum(file.stat().st_size for series in self.series() for file in self._images(series))
        for series in self.series():
            self._take_up(series)

    @staticmethod
    def _take_up(series: Path) -> None:
        """Offer what failed, and what was being worked on, once more."""
        try:
            state = State.of(series)
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{series / STATE} cannot be read; remove it to have the series done again.") from error
        if state.failed:
            State(state.job, state.done).save(series)

    def series(self) -> list[Path]:
        """The folders of all series."""
        return sorted(path for path in self.folder.iterdir() if path.is_dir() and path.name != UNFINISHED)

    @staticmethod
    def _images(series: Path) -> Iterable[Path]:
        return series.glob("*.dcm")

    def store(self, series_uid: str, sop_uid: str, content: bytes) -> Path:
        """Keep an image. One of the same UIDs takes the place of an earlier one.

        Args:
            series_uid: its SeriesInstanceUID.
            sop_uid: its SOPInstanceUID.
            content: the whole file.

        Returns:
            The series' folder.

        Raises:
            InboxFull: When the inbox may not grow further.
            OSError: When the image cannot be written.
        """
        series = self.folder / series_key(series_uid)
        name = f"{hashlib.sha256(sop_uid.encode()).hexdigest()[:32]}.dcm"
        with self._lock:
            earlier = (series / name).stat().st_size if (series / name).exists() else 0
            growth = len(content) - earlier
            if self.max_bytes is not None and growth > 0 and self._held + growth > self.max_bytes:
                raise InboxFull(f"{self.folder} holds {self._held} bytes of at most {self.max_bytes}.")
            self._held += growth
        try:
            beside = self._unfinished / f"{threading.get_ident()}-{name}"
            if not series.is_dir():
                series.mkdir(exist_ok=True)
                _sync(self.folder)
            _write_safely(series / name, content, beside)
        except BaseException:
            with self._lock:
                self._held -= growth
            raise
        return series

    def names_for_job(self, series: Path) -> frozenset[str]:
        """The files that a new job for a series is made of; none where there is nothing new, or a job is out.

        Those that were worked on belong to it, too, as long as they are kept: a volume that was late in part is whole.

        Args:
            series: its folder.
        """
        state = State.of(series)
        names = frozenset(file.name for file in self._images(series))
        return names if not state.job and names - state.done - state.failed else frozenset()

    def job_out(self, series: Path) -> frozenset[str]:
        """The files of the job of a series that is out; none where none is.

        Args:
            series: its folder.
        """
        return State.of(series).job

    def take(self, series: Path, names: frozenset[str]) -> ReceivedSeries:
        """Note that a job is out, so that it is the same one after a restart.

        Args:
            series: the folder of its series.
            names: its files.
        """
        state = State.of(series)
        if state.job != names:
            State(names, state.done, state.failed).save(series)
        return ReceivedSeries(series, names)

    def remove_done(self, keep_seconds: float) -> None:
        """Remove images that were worked on some time ago.

        Args:
            keep_seconds: how long they are kept after that, for late images of their series.
        """
        now = time.time()
        for series in self.series():
            try:
                if now - (series / STATE).stat().st_mtime < keep_seconds:
                    continue
            except FileNotFoundError:
                continue
            state = State.of(series)
            files = list(self._images(series))
            if state.job or {file.name for file in files} - state.done:
                continue
            for file in files:
                with self._lock:
                    self._held -= file.stat().st_size
                    file.unlink()
