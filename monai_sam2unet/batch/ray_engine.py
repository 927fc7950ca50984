# SPDX-License-Identifier: Apache-2.0
"""Has series processed by the machines of a Ray cluster; the journal stays with the program that asked for it."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Any

from monai_sam2unet.batch.bounded_queue import BoundedQueue
from monai_sam2unet.batch.journal import JournalError
from monai_sam2unet.batch.outcome import InHand, Outcome, reason_of
from monai_sam2unet.batch.processor import Processor
from monai_sam2unet.batch.ray_resources import RayResources, import_ray
from monai_sam2unet.batch.result_store import ResultStore
from monai_sam2unet.batch.run_log import say
from monai_sam2unet.batch.series_job import SeriesJob
from monai_sam2unet.batch.series_worker import Processed, SeriesWorker
from monai_sam2unet.errors import ConfigError, UserError

__all__ = ["RayEngine"]

logger = logging.getLogger(__name__)

#: Seconds between looks at what else there is to do.
WAIT = 0.2
LOST = (
    "The machine or process that worked on it was lost {} times. Is it too large for the memory? "
    "It can be tried again (retry_failed)."
)


@dataclass(frozen=True)
class _Task:
    job: SeriesJob
    worker: Any
    since: float


class RayEngine:
    """Hands series to workers, and publishes what they have written; begins those of lost machines anew.

    All machines must see the files of the series, and the output folder, under the same names, and have this package.

    Args:
        jobs: the series that are to be done, looked for in a thread of its own.
        make_processor: makes a processor on a worker; it is sent there.
        store: where results go.
        report: is told what came of each series, and None at the end.
        resources: what is taken of the cluster.
        found: series that are looked for ahead.

    Raises:
        ConfigError: When Ray is not installed, or there is no such cluster.
    """

    def __init__(
        self,
        jobs: Iterator[SeriesJob],
        make_processor: Callable[[], Processor],
        store: ResultStore,
        report: Callable[[Outcome | None], None],
        resources: RayResources,
        found: int = 256,
    ) -> None:
        self.stopped = ""
        self.busy_seconds = dict.fromkeys(("read", "predict", "write"), 0.0)
        self._ray = import_ray()
        if not self._ray.is_initialized():
            try:
                self._ray.init(address=resources.address, include_dashboard=False, log_to_driver=False)
            except (ConnectionError, ValueError) as error:
                raise ConfigError(f"There is no Ray cluster at {resources.address!r}: {error}") from error
        resources = resources.settled(self._ray)
        self.devices = resources.room(self._ray)
        self._source = jobs
        self._make_processor = make_processor
        self._store = store
        self._report = report
        self._resources = resources
        self._jobs = BoundedQueue[SeriesJob](found)
        self._again: list[SeriesJob] = []
        self._lost: Counter[str] = Counter()
        self._workers: list[Any] = []
        self._starting: dict[Any, Any] = {}
        self._tasks: dict[Any, _Task] = {}
        self._accepts = True
        self._threads = [threading.Thread(target=body, daemon=True) for body in (self._find, self._run)]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self, reason: str, write: bool = True) -> None:
        """Begin nothing more; what the workers have in hand is finished, where results can be written."""
        self.stopped = self.stopped or reason
        self._accepts = self._accepts and write
        self._jobs.close(drop=True)

    def in_hand(self) -> list[InHand]:
        """What the workers are at."""
        now = monotonic()
        return [InHand("process", (task.job,), now - task.since) for task in list(self._tasks.values())]

    def _find(self) -> None:
        try:
            for job in self._source:
                if not self._jobs.put(job):
                    break
        except Exception as error:
            self.stop(reason_of(error))
        finally:
            self._jobs.close()

    def _run(self) -> None:
        try:
            for _ in range(self.devices):
                self._start_worker()
            while self._go_on():
                self._hand_out()
                self._collect()
        except Exception as error:
            # Of a series nothing gets here: it is the journal, the cluster, or the program itself.
            if not self.stopped:
                logger.exception("The work on the cluster has ended.")
            self.stop(reason_of(error), write=False)
        finally:
            for worker in [*self._workers, *self._starting.values()]:
                with suppress(Exception):
                    self._ray.kill(worker)
            # Of workers that were lost while they wrote. No other is at work any more.
            self._store.output.clean()
            self._report(None)

    def _go_on(self) -> bool:
        if self.stopped:
            return bool(self._tasks) and self._accepts
        return bool(self._tasks or self._again) or not self._jobs.ended

    def _start_worker(self) -> None:
        resources = self._resources
        kind = self._ray.remote(SeriesWorker).options(
            num_gpus=resources.num_gpus, num_cpus=resources.num_cpus, max_concurrency=resources.at_once
        )
        worker = kind.remote(self._make_processor, str(self._store.output.folder.resolve()))
        self._starting[worker.ready.remote()] = worker

    def _hand_out(self) -> None:
        load = Counter(task.worker for task in self._tasks.values())
        for worker in sorted(self._workers, key=lambda worker: load[worker]):
            while not self.stopped and load[worker] < self._resources.at_once:
                waiting = [self._again.pop()] if self._again else self._jobs.take(1) if len(self._jobs) else []
                if not waiting:
                    return
                self._store.journal.start(waiting[0].key)
                self._tasks[worker.process.remote(waiting[0])] = _Task(waiting[0], worker, monotonic())
                load[worker] += 1

    def _collect(self) -> None:
        asked = [*self._tasks, *self._starting]
        if not asked:
            sleep(WAIT)  # nothing is found yet
            return
        finished, _ = self._ray.wait(asked, num_returns=len(asked), timeout=0)
        if not finished:
            finished, _ = self._ray.wait(asked, num_returns=1, timeout=WAIT)
        for reference in finished:
            starting = self._starting.pop(reference, None)
            task = self._tasks.pop(reference, None)
            try:
                answer = self._ray.get(reference)
            except (self._ray.exceptions.RayActorError, self._ray.exceptions.OutOfMemoryError) as error:
                # The second: Ray ends a worker before its machine's memory is used up.
                self._lose(starting, task, error)
                continue
            if starting is not None:
                self._workers.append(starting)
            elif task is not None:
                self._take(task.job, answer)

    def _lose(self, starting: Any, task: _Task | None, error: Exception) -> None:
        """See to it that a lost worker is replaced, and that what it had in hand is begun anew."""
        if task is None:
            if "creation" in str(error) or not self._workers:
                raise UserError(f"The model could not be loaded on the cluster: {error}") from error
            return
        if task.worker in self._workers:
            logger.warning("A worker was lost; another one is started where there is room.")
            self._workers.remove(task.worker)
            # It may be out of reach alone: what it writes is not waited for.
            with suppress(Exception):
                self._ray.kill(task.worker)
            if not self._workers:
                logger.warning("No worker is left; waiting for one.")
            self._start_worker()
        self._lost[task.job.key] += 1
        if self._lost[task.job.key] <= self._resources.retries:
            self._again.append(task.job)
        else:
            self._fail(task.job, Processed(reason=(told := LOST.format(self._lost[task.job.key])), shown=told))

    def _take(self, job: SeriesJob, processed: Processed) -> None:
        say(processed.said, job)
        for stage, seconds in zip(self.busy_seconds, processed.seconds, strict=True):
            self.busy_seconds[stage] += seconds
        if processed.disk_full:
            self.stop(f"A disk is full: {processed.reason} Make room, and give the same command again.", write=False)
        elif processed.reason:
            self._fail(job, processed)
        elif self._accepts:
            try:
                self._store.accept(job, processed.partial, processed.outputs, processed.seconds, processed.notes)
            except JournalError:
                raise
            except UserError as error:
                self._fail(job, Processed(reason=str(error), shown=str(error)))
            else:
                self._report(Outcome(job, notes=processed.notes))

    def _fail(self, job: SeriesJob, processed: Processed) -> None:
        if processed.fault:
            logger.error("A fault in series %s.\n%s", job.key, processed.fault, extra={"job": job})
        self._store.fail(job, processed.reason, processed.shown)
        self._report(Outcome(job, processed.reason, processed.shown))
