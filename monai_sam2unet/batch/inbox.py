# SPDX-License-Identifier: Apache-2.0
"""Received images on disk, by series, and the jobs that are made of them: no power cut loses a confirmed one."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from monai_sam2unet.batch.received_files import STATE, STATES, ReceivedFiles, State, write_safely
from monai_sam2unet.batch.refused import Refused
from monai_sam2unet.batch.series_job import SeriesJob, safe_key
from monai_sam2unet.errors import DataError
from monai_sam2unet.folders import sync_to_disk

__all__ = ["Inbox", "InboxFull"]

#: Files that are still being written. What is here after a start was never confirmed.
UNFINISHED = "unfinished"


class InboxFull(OSError):
    """The inbox may not grow further."""


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
        """Offer what failed once more."""
        try:
            state = State.of(series)
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{series / STATE} cannot be read; remove it to have the series done again.") from error
        if state.failed:
            replace(state, failed=frozenset()).save(series)

    def series(self) -> list[Path]:
        """The folders of all series."""
        return sorted(path for path in self.folder.iterdir() if path.is_dir() and path.name != UNFINISHED)

    @staticmethod
    def _images(series: Path) -> Iterable[Path]:
        return series.glob("*.dcm")

    def images(self, series: Path) -> frozenset[str]:
        """Names of the images of a series.

        Args:
            series: its folder.
        """
        return frozenset(file.name for file in self._images(series))

    def place(self, series_uid: str) -> Path:
        """The folder of a series, whether it is there or not.

        Args:
            series_uid: its SeriesInstanceUID.
        """
        return self.folder / safe_key(series_uid)

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
        series = self.place(series_uid)
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
                sync_to_disk(self.folder)
            write_safely(series / name, content, beside)
        except BaseException:
            with self._lock:
                self._held -= growth
            raise
        self._try_again(series, name)
        return series

    @staticmethod
    def _try_again(series: Path, name: str) -> None:
        """Offer what failed of a series once more, since an image of it was sent again."""
        with STATES:
            state = State.of(series)
            if name in state.failed:
                replace(state, failed=frozenset()).save(series)

    def is_out(self, series: Path) -> bool:
        """Whether jobs of a series are out.

        Args:
            series: its folder.
        """
        return bool(State.of(series).left)

    def is_new(self, series: Path) -> bool:
        """Whether a series has images that were not worked on, and are of no job.

        Args:
            series: its folder.
        """
        state = State.of(series)
        return bool(self.images(series) - state.taken - state.done - state.failed)

    def take(self, series: Path, images: frozenset[str]) -> list[SeriesJob | Refused]:
        """Make jobs of the images of a series, and note that they are out, so that they are the same after a restart.

        Images that were worked on belong to them, too, as long as they are kept: a volume of which a part was late is
        whole. Once they are removed, a volume of the late part is refused. What has no new image is no job. What is no
        image, or refused, is over at once.

        Args:
            series: its folder. Where jobs of it are out, as before a restart, they are given once more.
            images: names of its images, as :meth:`images` gave them; what came since then is not taken.
        """
        # Headers are read without the lock, for which each image that comes waits.
        found, no_images = _grouped(series, sorted(_begun(State.of(series), images).taken))
        with STATES:
            state = _begun(State.of(series), images)
            gone = len(state.done - self.images(series))
            jobs = [_received(item, series) if isinstance(item, SeriesJob) else item for item in found]
            wanted = [job for job in jobs if isinstance(job, Refused) or state.left.intersection(_names(job))]
            # Only volumes have an orientation.
            wanted = [
                _late(job, gone) if gone and isinstance(job, SeriesJob) and job.orientation else job for job in wanted
            ]
            inside = frozenset(name for job in wanted if isinstance(job, SeriesJob) for name in _names(job))
            state = state.over(no_images, done=True)
            state = state.over(state.left - inside, done=False)
            # A volume that was late in part is out with its earlier images.
            state = replace(state, left=inside, taken=state.taken if inside else frozenset())
            state.save(series)
        return wanted

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
            if state.left or {file.name for file in files} - state.done:
                continue
            for file in files:
                with self._lock:
                    self._held -= file.stat().st_size
                    file.unlink()


def _begun(state: State, images: frozenset[str]) -> State:
    """The state with jobs of all these images out, unless some are."""
    return state if state.left else replace(state, taken=images, left=images - state.done - state.failed)


def _late(job: SeriesJob, gone: int) -> Refused:
    return Refused(
        job.key,
        f"{job.slices} images came late: {gone} of their series were segmented before and are not kept any more, so "
        "that a volume would lack them. Send the whole series again.",
        job.series_uid,
    )


def _names(job: SeriesJob) -> frozenset[str]:
    return frozenset(file.name for file in job.files)


def _received(job: SeriesJob, series: Path) -> SeriesJob:
    """A job with a key that is the same for the same images, and another where images were late."""
    names = tuple(file.name for file in job.files)
    digest = hashlib.sha256("".join(sorted(names)).encode()).hexdigest()[:8]
    return replace(job, key=f"{job.key}-{digest}", fetch=ReceivedFiles(series, names))


def _grouped(series: Path, names: Iterable[str]) -> tuple[list[SeriesJob | Refused], frozenset[str]]:
    """Jobs of the images of a series, and which files are no images."""
    # Not at the top: it waits for pydicom's and numpy's parts that a listener needs only now.
    from monai_sam2unet.batch.sources.grouping import SeriesGroups
    from monai_sam2unet.batch.sources.headers import NoImage, read_brief

    groups = SeriesGroups(None, Counter())
    jobs: list[SeriesJob | Refused] = []
    no_images = set()
    for path in (series / name for name in names):
        with path.open("rb", buffering=0) as file:
            found = read_brief(file, path, path.stat().st_size)
        if isinstance(found, NoImage):
            no_images.add(path.name)
            jobs.append(Refused(path.name, f"It is no image: it is {found.kind}."))
        else:
            jobs += groups.add(found)
    jobs += groups.finish()
    return jobs, frozenset(no_images)
