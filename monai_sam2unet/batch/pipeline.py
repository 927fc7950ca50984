# SPDX-License-Identifier: Apache-2.0
"""Reads, predicts and writes many series at once: each in threads of its own, with bounded queues between them."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any

from monai_sam2unet.batch.bounded_queue import BoundedQueue
from monai_sam2unet.batch.engine import Engine, PipelineLimits
from monai_sam2unet.batch.journal import JournalError
from monai_sam2unet.batch.outcome import InHand, Outcome, RunStopped, reason_of
from monai_sam2unet.batch.predictor import Predictor
from monai_sam2unet.batch.processor import Fallback, MemoryFallbacks, Processor
from monai_sam2unet.batch.publishing import DiskFullError, is_disk_full
from monai_sam2unet.batch.result_store import ResultStore
from monai_sam2unet.batch.run_log import about
from monai_sam2unet.batch.series_job import SeriesJob
from monai_sam2unet.errors import ConfigError, UserError

__all__ = ["Engine", "Fallback", "MemoryFallbacks", "Pipeline", "PipelineLimits", "Processor"]

logger = logging.getLogger(__name__)


@dataclass
class _Work:
    job: SeriesJob
    case: Any = None
    result: Any = None
    seconds: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def _size(value: Any) -> int:
    size = getattr(value, "nbytes", 0)
    return size if isinstance(size, int) else 0


class Pipeline:
    """Takes series from an iterator and has each read, predicted, written and noted, or noted as failed.

    Args:
        jobs: the series that are to be done, looked for in a thread of its own.
        processors: one or more a device, each of which predicts in a thread of its own; the first one also reads and
            writes.
        store: where results go.
        report: is told what came of each series, in the threads; and None once all threads that predict and write have
            ended.
        limits: how much is done at once.

    Raises:
        ConfigError: When there is no processor.
    """

    def __init__(
        self,
        jobs: Iterator[SeriesJob],
        processors: Sequence[Processor],
        store: ResultStore,
        report: Callable[[Outcome | None], None],
        limits: PipelineLimits,
    ) -> None:
        if not processors:
            raise ConfigError("There is no processor: give one a device.")
        self.store = store
        self.stopped = ""
        self.devices = len(processors)
        self.busy_seconds = dict.fromkeys(("read", "predict", "write"), 0.0)
        self._source = jobs
        self._processors = processors
        self._report = report
        self._limits = limits
        self._jobs = BoundedQueue[SeriesJob](limits.found)
        self._cases = BoundedQueue[_Work](limits.waiting, limits.waiting_bytes)
        self._results = BoundedQueue[_Work](limits.waiting, limits.waiting_bytes)
        self._mutex = threading.Lock()
        self._in_hand: dict[int, tuple[str, tuple[SeriesJob, ...], float]] = {}
        # Those who wait for a stage's end, by its name: it ends with the last of its threads.
        self._ends: dict[str, Callable[[], object]] = {
            "find": self._jobs.close,
            "read": self._cases.close,
            "predict": self._results.close,
        }
        bodies: list[tuple[str, Callable[[], None]]] = [("find", self._find)]
        bodies += [("read", self._read_all)] * limits.readers
        bodies += [("predict", self._predictions_of(processor)) for processor in processors]
        bodies += [("write", self._write_all)] * limits.writers
        self._running = Counter(stage for stage, _ in bodies)
        # A thread that hangs in a file system must not keep the program from its end.
        self._threads = [
            threading.Thread(target=self._run, args=body, name=f"{body[0]} {number}", daemon=True)
            for number, body in enumerate(bodies)
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self, reason: str, write: bool = True) -> None:
        """Begin nothing more. What is being predicted or written is finished; the rest waits for the next start.

        Args:
            reason: why; the first one counts.
            write: whether results that wait are written.
        """
        with self._mutex:
            self.stopped = self.stopped or reason
        self._jobs.close(drop=True)
        self._cases.close(drop=True)
        if not write:
            self._results.close(drop=True)

    def in_hand(self) -> list[InHand]:
        """What the threads are at."""
        with self._mutex:
            return [InHand(stage, jobs, monotonic() - since) for stage, jobs, since in self._in_hand.values()]

    def _run(self, stage: str, body: Callable[[], None]) -> None:
        try:
            body()
        except BaseException as error:
            # Of a series nothing gets here: it is the journal, or the program itself.
            if not self.stopped:
                logger.exception("A thread to %s has ended.", stage)
            self.stop(reason_of(error), write=not isinstance(error, JournalError))
        finally:
            with self._mutex:
                self._running[stage] -= 1
                is_last = not self._running[stage]
                is_end = is_last and not (self._running["predict"] or self._running["write"])
            if is_last and stage in self._ends:
                self._ends[stage]()
            if is_end and stage in ("predict", "write"):
                self._report(None)

    @contextmanager
    def _timed(self, stage: str, works: Sequence[_Work]) -> Iterator[None]:
        thread = threading.get_ident()
        begin = monotonic()
        with self._mutex:
            self._in_hand[thread] = (stage, tuple(work.job for work in works), begin)
        try:
            with about(works[0].job if len(works) == 1 else None):
                yield
        finally:
            taken = monotonic() - begin
            for work in works:
                work.seconds[stage] = taken / len(works)
            with self._mutex:
                del self._in_hand[thread]
                self.busy_seconds[stage] += taken

    def _find(self) -> None:
        for job in self._source:
            if not self._jobs.put(job):
                return

    def _read_all(self) -> None:
        while jobs := self._jobs.take(1):
            work = _Work(jobs[0])
            self.store.journal.start(work.job.key)
            try:
                with self._timed("read", [work]):
                    work.case = self._processors[0].read(work.job)
            except Exception as error:
                self._fail(work, error)
            else:
                self._cases.put(work, _size(work.case))
            del work  # not held while the next one is waited for

    def _go_together(self, works: Sequence[_Work]) -> bool:
        return sum(work.job.slices for work in works) <= self._limits.together_slices

    def _predictions_of(self, processor: Processor) -> Callable[[], None]:
        def predict_all() -> None:
            predictor = Predictor(processor)
            while works := self._cases.take(self._limits.together, len(self._processors), self._go_together):
                with self._timed("predict", works):
                    outcomes = predictor([work.case for work in works])
                for work, outcome in zip(works, outcomes, strict=True):
                    work.case, work.result, work.notes = None, outcome.result, outcome.notes
                    if outcome.error is not None:
                        self._fail(work, outcome.error)
                    else:
                        self._results.put(work, _size(work.result))
                del work, works, outcome, outcomes

        return predict_all

    def _write_all(self) -> None:
        while works := self._results.take(1):
            work = works.pop()
            try:
                with self._timed("write", [work]):
                    self.store.keep(
                        work.job,
                        partial(self._processors[0].write, work.job, work.result),
                        (work.seconds["read"], work.seconds["predict"]),
                        work.notes,
                    )
            except Exception as error:
                self._fail(work, error)
            else:
                self._report(Outcome(work.job, notes=work.notes))
            del work

    def _fail(self, work: _Work, error: Exception) -> None:
        if isinstance(error, JournalError):
            raise error
        if is_disk_full(error):
            told = error if isinstance(error, DiskFullError) else f"A disk is full: {error}"
            self.stop(f"{told} Make room, and give the same command again: it goes on.", write=False)
            return
        if isinstance(error, RunStopped):
            self.stop(f"{error} Give the same command again: it goes on.", write=False)
            return
        if not isinstance(error, UserError):
            logger.error("A fault in series %s.", work.job.key, exc_info=error, extra={"job": work.job})
        reason, shown = reason_of(error), reason_of(error, quote=False)
        self.store.fail(work.job, reason, shown)
        self._report(Outcome(work.job, reason, shown))
