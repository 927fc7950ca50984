# SPDX-License-Identifier: Apache-2.0
"""What processes the series of a run, and how much of it at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from monai_sam2unet.batch.outcome import InHand
from monai_sam2unet.errors import ConfigError

__all__ = ["Engine", "PipelineLimits"]


@dataclass(frozen=True)
class PipelineLimits:
    """How much is done at once.

    Args:
        readers: threads that read. Each holds one case beyond those that wait.
        writers: threads that write.
        found: series that are looked for ahead of the readers.
        waiting: cases, and results, that wait at most for the next stage.
        waiting_bytes: memory that the cases, and the results, that wait take at most; one alone may be larger.
        together: cases that are predicted together at most.
        together_slices: slices that these have at most; a case with more is predicted alone. Batches of several series
            are worth while for small ones, and all results of what is predicted together are held until its end.

    Raises:
        ConfigError: When one of them is less than 1.
    """

    readers: int = 2
    writers: int = 2
    found: int = 256
    waiting: int = 16
    waiting_bytes: int = 4 * 2**30
    together: int = 16
    together_slices: int = 64

    def __post_init__(self) -> None:
        wrong = [f"{name} is {value}" for name, value in vars(self).items() if value < 1]
        if wrong:
            raise ConfigError(f"How much is done at once must be 1 or more, but {', '.join(wrong)}.")


class Engine(Protocol):
    """What processes series: the threads of :class:`~monai_sam2unet.batch.pipeline.Pipeline`, or other machines.

    It reports what came of each series, and None at its end.
    """

    stopped: str
    busy_seconds: dict[str, float]
    devices: int

    def start(self) -> None:
        """Begin."""

    def stop(self, reason: str, write: bool = True) -> None:
        """Begin nothing more, and come to an end."""

    def in_hand(self) -> list[InHand]:
        """What it is at."""
