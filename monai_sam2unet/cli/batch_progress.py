# SPDX-License-Identifier: Apache-2.0
"""Shows how far a run over many series is: a bar with rate and time left, or plain lines where there is no terminal."""

from __future__ import annotations

import time
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from monai_sam2unet.batch.batch_events import BatchEvent, BatchProgress, EventKind

__all__ = ["BatchProgressView"]

#: Seconds between plain lines on how far it is.
INTERVAL = 10.0
#: What is always said, as a line of its own.
TOLD = (EventKind.AGAIN, EventKind.FAILED, EventKind.NOTE, EventKind.STOPPING)


def _left(progress: BatchProgress) -> str:
    seconds = progress.seconds_left
    more = "" if progress.all_found else ", still searching"
    return f"{timedelta(seconds=round(seconds))} left{more}" if seconds is not None else more.lstrip(", ")


def _status(progress: BatchProgress) -> str:
    parts = [f"{progress.done} of {progress.found} series done"]
    if progress.failed:
        parts.append(f"{progress.failed} failed")
    if progress.slices_done:
        parts.append(f"{3600 * progress.series_per_second:.0f} series/h, {progress.slices_per_second:.1f} slices/s")
    return ", ".join(filter(None, [*parts, _left(progress)]))


class BatchProgressView:
    """A listener of a run (:data:`monai_sam2unet.batch.batch_events.Listener`), shown while it is entered.

    Args:
        console: where it is shown.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console, transient=True
        )
        self._task = self._bar.add_task("searching", total=None)
        self._next_line = 0.0

    def __enter__(self) -> BatchProgressView:
        if self.console.is_terminal:
            self._bar.start()
        self._next_line = time.monotonic() + INTERVAL
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, event: BatchEvent) -> None:
        """Show what has happened."""
        progress = event.progress
        if event.kind in TOLD or (event.kind is EventKind.DONE and event.text):
            told = " ".join(filter(None, (f"{event.kind.value}:", event.name, event.text)))
            self.console.print(told, markup=False, highlight=False, soft_wrap=True)
        if self.console.is_terminal:
            total = progress.slices or None
            self._bar.update(self._task, description=_status(progress), completed=progress.slices_done, total=total)
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + INTERVAL
            self.console.print(_status(progress), markup=False, highlight=False, soft_wrap=True)
