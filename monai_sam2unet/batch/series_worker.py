# SPDX-License-Identifier: Apache-2.0
"""Processes series on another machine, up to whole results in a partial folder of a file system that all share."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

from monai_sam2unet.batch.outcome import reason_of
from monai_sam2unet.batch.predictor import Predictor
from monai_sam2unet.batch.processor import Processor
from monai_sam2unet.batch.publishing import OutputFolder, is_disk_full
from monai_sam2unet.batch.run_log import Said, about, kept_log, traceback_text
from monai_sam2unet.batch.series_job import SeriesJob
from monai_sam2unet.errors import UserError

__all__ = ["Processed", "SeriesWorker"]


@dataclass(frozen=True)
class Processed:
    """What came of a series: texts and numbers only, since errors cannot always be sent.

    Args:
        partial: name of the partial folder that the results are in; empty where it failed.
        outputs: names of the files in it.
        seconds: taken to read, predict and write.
        notes: what is to be known of how they were made.
        reason: why it failed; else empty.
        shown: the same without what a fault of the program quotes.
        fault: where a fault of the program was raised; empty where it is the series' own.
        disk_full: whether there was no room.
        said: what was logged and warned of meanwhile.
    """

    partial: str = ""
    outputs: tuple[str, ...] = ()
    seconds: tuple[float, float, float] = (0.0, 0.0, 0.0)
    notes: tuple[str, ...] = ()
    reason: str = ""
    shown: str = ""
    fault: str = ""
    disk_full: bool = False
    said: tuple[Said, ...] = ()


class SeriesWorker:
    """Has one processor, and processes a series at a call. Of several calls at once, one predicts.

    Args:
        make_processor: makes the processor, with the model loaded.
        output_dir: the output folder.
    """

    def __init__(self, make_processor: Callable[[], Processor], output_dir: str) -> None:
        # For as long as the process lives: a worker has no log of its own that identity could be kept out of.
        self._held = ExitStack()
        self._log = self._held.enter_context(kept_log())
        self._processor = make_processor()
        self._predictor = Predictor(self._processor)
        self._predicting = threading.Lock()
        self._output = OutputFolder(output_dir)

    def ready(self) -> bool:
        """Answers once the processor is made."""
        return True

    def process(self, job: SeriesJob) -> Processed:
        """Read, predict and write a series.

        Args:
            job: the series.
        """
        with about(job):
            processed = self._tried(job)
        return replace(processed, said=self._log.take(job))

    def _tried(self, job: SeriesJob) -> Processed:
        try:
            return self._process(job)
        except Exception as error:
            return Processed(
                reason=reason_of(error),
                shown=reason_of(error, quote=False),
                fault="" if isinstance(error, UserError) else traceback_text(error),
                disk_full=is_disk_full(error),
            )

    def _process(self, job: SeriesJob) -> Processed:
        begin = perf_counter()
        case = self._processor.read(job)
        read_s = perf_counter() - begin
        with self._predicting:
            begin = perf_counter()
            (outcome,) = self._predictor([case])
            predict_s = perf_counter() - begin
        del case
        if outcome.error is not None:
            raise outcome.error
        begin = perf_counter()

        def write(folder: Path) -> None:
            self._processor.write(job, outcome.result, folder)

        partial, outputs = self._output.write_partial(job.key, write)
        return Processed(partial.name, outputs, (read_s, predict_s, perf_counter() - begin), outcome.notes)
