# SPDX-License-Identifier: Apache-2.0
"""What came of a series, and what the threads of a run are at."""

from __future__ import annotations

from dataclasses import dataclass

from monai_sam2unet.batch.predictor import is_out_of_gpu_memory
from monai_sam2unet.batch.series_job import SeriesJob
from monai_sam2unet.errors import UserError

__all__ = ["InHand", "Outcome", "RunStopped", "reason_of"]


class RunStopped(UserError):
    """The series that follow would fail as well, so the run comes to an end; this one is begun anew by the next."""


@dataclass(frozen=True)
class Outcome:
    """What came of one series.

    Args:
        job: the series.
        reason: why it failed; empty where it is done.
        shown: the same without what a fault of the program quotes, which may be any value of a file.
        notes: what is to be known of how its results were made.
    """

    job: SeriesJob
    reason: str = ""
    shown: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class InHand:
    """What a thread is at.

    Args:
        stage: ``"read"``, ``"predict"`` or ``"write"``.
        jobs: the series.
        seconds: since when.
    """

    stage: str
    jobs: tuple[SeriesJob, ...]
    seconds: float


def reason_of(error: BaseException, quote: bool = True) -> str:
    """Why a series failed, as the journal notes it: an error's text, or for a fault of the program its kind as well.

    Args:
        error: what was raised.
        quote: whether a fault's text is part of it.
    """
    if isinstance(error, UserError):
        return str(error)
    if is_out_of_gpu_memory(error):
        return f"The GPU has too little memory for this series: {error}"
    if isinstance(error, MemoryError):
        return f"There is too little memory for this series: {str(error) or 'MemoryError'}"
    return f"A fault of the program ({type(error).__name__}, see the log)" + (f": {error}" if quote else "")
