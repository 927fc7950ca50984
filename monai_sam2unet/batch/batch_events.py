# SPDX-License-Identifier: Apache-2.0
"""What a run tells while it lasts, and at its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from monai_sam2unet.batch.series_job import SeriesJob

__all__ = ["BatchEvent", "BatchProgress", "BatchSummary", "EventKind", "Listener"]


class EventKind(str, Enum):
    """What has happened."""

    FOUND = "found"  # a series that will be done
    AGAIN = "again"  # one that is done once more; the text says why
    DONE_BEFORE = "done before"
    FAILED_BEFORE = "failed before"
    SKIPPED = "skipped"
    DONE = "done"
    FAILED = "failed"
    ALL_FOUND = "all found"
    NOTE = "note"  # something that is to be said, such as that a file system hangs
    STOPPING = "stopping"


@dataclass(frozen=True)
class BatchProgress:
    """How far a run is.

    Args:
        found: series to be done that were found so far, and what was refused since it is damaged or incomplete.
        done: of these, done.
        failed: of these, failed; all that was refused so is among them.
        done_before: found, and done by an earlier run.
        failed_before: found, failed in an earlier run, and not tried again.
        skipped: not taken, as a rule says or since it is no image.
        slices: of the series to be done.
        slices_done: of those done or failed.
        all_found: whether the search has ended.
        seconds: since the run has begun.
    """

    found: int = 0
    done: int = 0
    failed: int = 0
    done_before: int = 0
    failed_before: int = 0
    skipped: int = 0
    slices: int = 0
    slices_done: int = 0
    all_found: bool = False
    seconds: float = 0.0

    @property
    def series_per_second(self) -> float:
        """Series done or failed, a second."""
        return (self.done + self.failed) / self.seconds if self.seconds else 0.0

    @property
    def slices_per_second(self) -> float:
        """Slices of the series done or failed, a second."""
        return self.slices_done / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """At this rate, for what was found so far; None before the first series is done."""
        return (self.slices - self.slices_done) / self.slices_per_second if self.slices_done else None


@dataclass(frozen=True)
class BatchEvent:
    """Something that has happened.

    Args:
        kind: what.
        progress: how far the run is now.
        name: of the series, to be shown; empty where it is about none.
        text: a reason, or what is to be said; may be empty. Names and UIDs are left out unless the run shows identity.
        job: the series; None where it is about none.
    """

    kind: EventKind
    progress: BatchProgress
    name: str = ""
    text: str = ""
    job: SeriesJob | None = None


#: Is told each event, in the thread that called ``run``, one after the other.
Listener = Callable[[BatchEvent], None]


@dataclass(frozen=True)
class BatchSummary:
    """What came of a run.

    Args:
        progress: how far it got.
        left: series that the journal knows and that are neither done nor failed: the run was stopped, or they are not
            found any more.
        stopped: why it ended before all was done; else empty.
        busy_seconds: of all threads of a stage together, by its name: ``"read"``, ``"predict"`` and ``"write"``.
        devices: number of threads that predict.
    """

    progress: BatchProgress
    left: int
    stopped: str
    busy_seconds: dict[str, float]
    devices: int

    @property
    def device_busy(self) -> float:
        """Share of the time in which the threads that predict were predicting, from 0 to 1."""
        return self.busy_seconds.get("predict", 0.0) / (self.progress.seconds * self.devices or 1.0)

    @property
    def exit_code(self) -> int:
        """0 all done; 1 some failed; 2 it could not start: nothing was found; 3 stopped: the same command goes on."""
        progress = self.progress
        if not (progress.found or progress.done_before or progress.failed_before or progress.skipped):
            return 2
        if self.stopped:
            return 3
        return 1 if progress.failed or progress.failed_before or self.left else 0
