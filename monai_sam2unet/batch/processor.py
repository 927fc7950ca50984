# SPDX-License-Identifier: Apache-2.0
"""What is done to each series: what a run asks of the part that reads, predicts and writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from monai_sam2unet.batch.series_job import SeriesJob

__all__ = ["Fallback", "MemoryFallbacks", "Processor"]


class Processor(Protocol):
    """Reads, predicts and writes series. Each of the three may run in several threads at once, of different series.

    What ``read`` and ``predict`` return may have ``nbytes``, the memory that it takes: the run then bounds how much
    waits at a time.
    """

    def read(self, job: SeriesJob) -> Any:
        """Read a series and prepare it for the network.

        Args:
            job: the series.

        Returns:
            The case, of any type.

        Raises:
            UserError: When the series cannot be processed; its text is the reason that is noted.
        """

    def predict(self, cases: list[Any]) -> list[Any]:
        """Predict several cases; one thread a processor calls it.

        Args:
            cases: what ``read`` returned of several series.

        Returns:
            A result a case, of any type, in the same order. Where it raises, each case is tried alone.
        """

    def write(self, job: SeriesJob, result: Any, folder: Path) -> None:
        """Write the result of a series.

        Args:
            job: the series.
            result: what ``predict`` returned of it.
            folder: an empty one; the run gives it its name when all is on the disk.
        """


@dataclass(frozen=True)
class Fallback:
    """A way to predict that takes less memory of the GPU.

    Args:
        name: in words for the log, such as ``"batches of 2 slices"`` or ``"the CPU"``.
        keep: whether it is kept for the series that follow, once it was needed. Smaller batches cost little; the CPU
            is for the one series that fits nowhere else.
    """

    name: str
    keep: bool = True


@runtime_checkable
class MemoryFallbacks(Protocol):
    """A processor that can predict with less memory of the GPU; others record such series as failed."""

    def fallbacks(self) -> Sequence[Fallback]:
        """The ways there are, the next best first."""

    def predict_with(self, cases: list[Any], fallback: Fallback) -> list[Any]:
        """Predict in such a way; as ``predict`` in all else.

        Later calls must not be changed by it: a way that is kept is asked for each time.

        Args:
            cases: what ``read`` returned. Nothing is held of a try before that ran out of memory.
            fallback: one of ``fallbacks()``.
        """
