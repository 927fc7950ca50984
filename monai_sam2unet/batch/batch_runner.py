# SPDX-License-Identifier: Apache-2.0
"""Runs a processor over many series: goes on where an earlier run ended, and says in the end what happened."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

from monai_sam2unet.batch.batch_events import BatchEvent, BatchProgress, BatchSummary, EventKind, Listener
from monai_sam2unet.batch.identity import discreet, discreet_refusal
from monai_sam2unet.batch.journal import Journal
from monai_sam2unet.batch.journal_row import State
from monai_sam2unet.batch.outcome import InHand, Outcome, reason_of
from monai_sam2unet.batch.pipeline import Engine, Pipeline, PipelineLimits, Processor
from monai_sam2unet.batch.refused import RefusalKind, Refused
from monai_sam2unet.batch.result_store import ResultStore, Standing
from monai_sam2unet.batch.run_log import run_log
from monai_sam2unet.batch.series_job import SeriesJob
from monai_sam2unet.batch.stop_signals import stop_signals

__all__ = ["LOG_NAME", "BatchRunner"]

LOG_NAME = "batch.log"
#: How often (seconds) the main thread looks for threads that hang.
HEARTBEAT = 1.0
STOPPED = "Stopped as asked: the same command goes on."

logger = logging.getLogger(__name__)

#: What is counted by each event.
COUNTED = {
    EventKind.FOUND: "found",
    EventKind.AGAIN: "found",
    EventKind.DONE: "done",
    EventKind.FAILED: "failed",
    EventKind.DONE_BEFORE: "done_before",
    EventKind.FAILED_BEFORE: "failed_before",
    EventKind.SKIPPED: "skipped",
}
REFUSALS = {
    RefusalKind.LEFT: EventKind.SKIPPED,
    RefusalKind.LOST: EventKind.FAILED,
    RefusalKind.NOTHING: EventKind.NOTE,
}

WARNED = (EventKind.AGAIN, EventKind.FAILED, EventKind.NOTE, EventKind.STOPPING)


@dataclass(frozen=True)
class _Event:
    kind: EventKind
    text: str = ""
    job: SeriesJob | None = None
    name: str = ""


class BatchRunner:
    """Processes series into an output folder, each once, whatever happens on the way.

    The output folder holds a folder a series, named by its key, the journal (``journal.sqlite``) and a log
    (``batch.log``). One bad series fails alone. The first Ctrl-C ends the run after what is being predicted and
    written; the second one at once. A full disk ends it, too. In each case, the same call goes on.

    Args:
        jobs: what there is to do, and what is not taken; looked for while the first ones are processed, so that the
            files of a series must stay until its ``release`` is called: once it is done or has failed.
        processor: what reads, predicts and writes; or one or more a device, of which the first reads and writes.
        output_dir: the output folder.
        made_with: what the results depend on, by name (see :class:`~monai_sam2unet.batch.journal.Journal`).
        retry_failed: whether series that failed in an earlier run are tried again.
        limits: how much is done at once; None for the defaults.
        listener: is told what happens.
        hung_after: seconds after which a thread that still reads, predicts or writes the same series is spoken of.
        show_identity: whether log and events name UIDs and files.

    Raises (``run``):
        ConfigError: When the folder cannot be written to, another program works in it, its results were made with
            other settings, or there is no processor.
        JournalError: When the journal cannot be read.
        KeyboardInterrupt: At the second Ctrl-C.
    """

    def __init__(
        self,
        jobs: Iterable[SeriesJob | Refused],
        processor: Processor | Sequence[Processor],
        output_dir: str | Path,
        made_with: Mapping[str, Any] | None = None,
        retry_failed: bool = False,
        limits: PipelineLimits | None = None,
        listener: Listener | None = None,
        hung_after: float = 300.0,
        show_identity: bool = False,
    ) -> None:
        self.jobs = jobs
        self.processors = processor if isinstance(processor, Sequence) else [processor]
        self.output_dir = Path(output_dir)
        self.made_with = made_with
        self.retry_failed = retry_failed
        self.limits = limits or PipelineLimits()
        self.listener = listener
        self.hung_after = hung_after
        self.show_identity = show_identity
        self._events: SimpleQueue[_Event | None] = SimpleQueue()
        self._progress = BatchProgress()
        self._begin = 0.0
        self._search_error = ""

    def run(self) -> BatchSummary:
        """Process all there is to do."""
        self._begin, self._progress, self._search_error = monotonic(), BatchProgress(), ""
        with (
            Journal(self.output_dir, self.made_with) as journal,
            run_log(self.output_dir / LOG_NAME, self.show_identity),
        ):
            store = ResultStore(journal)
            journal.forget_refused()
            recovered, removed = store.recover()
            if recovered or removed:
                logger.info("The run before was cut off: %d series finished, %d folders removed.", recovered, removed)
            pipeline = self._engine(store)
            try:
                # Only put into a queue: the signal may come while this thread holds a lock.
                with stop_signals(lambda: self._events.put(_Event(EventKind.STOPPING, STOPPED))):
                    pipeline.start()
                    self._follow(pipeline)
            except BaseException:
                pipeline.stop("The run was broken off.", write=False)
                raise
            store.output.remove_partials()
            return self._summary(pipeline, journal)

    def _engine(self, store: ResultStore) -> Engine:
        return Pipeline(self._to_do(store), self.processors, store, self._report, self.limits)

    def _summary(self, pipeline: Engine, journal: Journal) -> BatchSummary:
        progress = replace(self._progress, seconds=monotonic() - self._begin)
        left = sum(row.state in (State.FOUND, State.RUNNING) for row in journal.rows())
        # Who asks to stop when all is done has missed nothing.
        is_whole = progress.all_found and progress.done + progress.failed == progress.found
        stopped = self._search_error or ("" if is_whole else pipeline.stopped)
        summary = BatchSummary(progress, left, stopped, dict(pipeline.busy_seconds), pipeline.devices)
        logger.info("%s The end: %s", stopped, progress)
        return summary

    def _report(self, outcome: Outcome | None) -> None:
        if outcome is None:
            self._events.put(None)
        elif outcome.reason:
            reason = outcome.reason if self.show_identity else outcome.shown
            self._events.put(_Event(EventKind.FAILED, reason, outcome.job))
        else:
            self._events.put(_Event(EventKind.DONE, "; ".join(outcome.notes), outcome.job))

    def _to_do(self, store: ResultStore) -> Iterator[SeriesJob]:
        """Those series that are to be done; of the thread that searches."""
        seen: set[str] = set()
        jobs = iter(self.jobs)
        while True:
            try:
                item = next(jobs)
            except StopIteration:
                break
            except Exception as error:
                # What was found so far is done all the same.
                self._search_error = f"The search for series has broken off: {reason_of(error)}"
                logger.error("The search for series has broken off.", exc_info=error)
                break
            if isinstance(item, SeriesJob) and item.key in seen:
                item = Refused(item.key, "It was found a second time in this run.", item.series_uid)
            if isinstance(item, Refused):
                self._events.put(self._refusal(item, store.journal))
                continue
            seen.add(item.key)
            standing = store.standing(item, self.retry_failed)
            if standing in (Standing.DONE, Standing.FAILED):
                store.release(item, done=standing is Standing.DONE)
            if standing is Standing.DONE:
                self._events.put(_Event(EventKind.DONE_BEFORE, job=item))
            elif standing is Standing.FAILED:
                self._events.put(_Event(EventKind.FAILED_BEFORE, job=item))
            else:
                store.journal.found(item)
                kind = EventKind.FOUND if standing is Standing.NEW else EventKind.AGAIN
                self._events.put(_Event(kind, standing.value, item))
                yield item
        self._events.put(_Event(EventKind.ALL_FOUND, self._search_error))

    def _refusal(self, refused: Refused, journal: Journal) -> _Event:
        key = journal.skip(refused)
        if self.show_identity:
            return _Event(REFUSALS[refused.kind], refused.reason, name=refused.source)
        row = journal.row(key)
        name = key if row is None else row.shown_name
        return _Event(REFUSALS[refused.kind], discreet_refusal(refused), name=name)

    def _follow(self, pipeline: Engine) -> None:
        """Tell what happens, until all is done; of the thread that called ``run``."""
        spoken_of: dict[tuple[SeriesJob, ...], float] = {}
        next_look = monotonic() + HEARTBEAT
        while True:
            try:
                event = self._events.get(timeout=HEARTBEAT)
            except Empty:
                pass
            else:
                if event is None:
                    break
                if event.kind is EventKind.STOPPING:
                    pipeline.stop(event.text)
                self._tell(event)
            if monotonic() >= next_look:
                next_look = monotonic() + HEARTBEAT
                self._look_for_hung(pipeline.in_hand(), spoken_of)
        if pipeline.stopped not in ("", STOPPED):
            self._tell(_Event(EventKind.STOPPING, pipeline.stopped))

    def _look_for_hung(self, in_hand: Sequence[InHand], spoken_of: dict[tuple[SeriesJob, ...], float]) -> None:
        for task in in_hand:
            if task.seconds >= spoken_of.get(task.jobs, self.hung_after):
                spoken_of[task.jobs] = 2 * task.seconds  # not every second
                doing = {"read": "Reading", "predict": "Predicting", "write": "Writing"}.get(task.stage, "It")
                told = f"{doing} has taken {task.seconds:.0f} s so far. Does a file system hang? The rest goes on."
                for job in task.jobs:
                    self._tell(_Event(EventKind.NOTE, told, job))

    def _tell(self, event: _Event) -> None:
        counted = COUNTED.get(event.kind)
        slices = 0 if event.job is None else event.job.slices
        progress = replace(self._progress, seconds=monotonic() - self._begin)
        if counted is not None:
            progress = replace(progress, **{counted: getattr(progress, counted) + 1})
        if event.kind in (EventKind.FOUND, EventKind.AGAIN):
            progress = replace(progress, slices=progress.slices + slices)
        elif event.kind is EventKind.FAILED and event.job is None:
            progress = replace(progress, found=progress.found + 1)
        elif event.kind in (EventKind.DONE, EventKind.FAILED):
            progress = replace(progress, slices_done=progress.slices_done + slices)
        elif event.kind is EventKind.ALL_FOUND:
            progress = replace(progress, all_found=True)
        self._progress = progress
        name, text = event.name or ("" if event.job is None else event.job.key), event.text
        if not self.show_identity:
            name, text = discreet(name), discreet(text, event.job)
        level = logging.INFO if event.kind not in WARNED else logging.WARNING
        if event.kind not in (EventKind.FOUND, EventKind.DONE_BEFORE):
            logger.log(level, "%s", " ".join(filter(None, (f"{event.kind.value}:", name, text))))
        if self.listener is not None:
            self.listener(BatchEvent(event.kind, progress, name, text, event.job))
