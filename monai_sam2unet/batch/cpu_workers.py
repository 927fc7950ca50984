# SPDX-License-Identifier: Apache-2.0
"""Several predictions at once on a CPU, each with its share of the cores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["cpu_workers", "shared_cores"]

#: Each holds the features of a batch.
MAX_WORKERS = 4


def cpu_workers(device: torch.device) -> int:
    """How many predictions a device makes at once: one on a GPU, up to four on a CPU.

    Threads that work on one operation wait for each other at its end, and for whatever else takes a core. Batches of
    their own do not: two threads predict a quarter more slices so than together (docs/results.md).

    Args:
        device: where the network is.

    Example:
        >>> cpu_workers(torch.device("cuda"))
        1
    """
    return min(MAX_WORKERS, torch.get_num_threads()) if device.type == "cpu" else 1


@contextmanager
def shared_cores(workers: int) -> Iterator[None]:
    """Gives torch's operations in threads that begin within this context a share of its threads.

    How many threads torch has is one number for the whole process: two contexts must not overlap.

    Args:
        workers: threads that predict on the CPU at once; 0 where there is none.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // max(1, workers)))
    try:
        yield
    finally:
        torch.set_num_threads(threads)
