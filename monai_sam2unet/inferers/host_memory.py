# SPDX-License-Identifier: Apache-2.0
"""Memory of the CPU for large results, and copies into it that do not hold up a GPU."""

from __future__ import annotations

import contextlib
import math
import mmap
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["HostCopy", "empty_result"]

HUGE_PAGE = 2**21


def empty_result(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A tensor of any content to write a large result into.

    On a CPU the first touch of fresh memory, page by page, can cost more than everything else that is done to a
    result; so it is taken in huge pages where the system has them (Linux's ``madvise``).

    Args:
        shape: the tensor's shape.
        dtype: its type.
        device: where it lives.

    Returns:
        The tensor, contiguous.

    Example:
        >>> empty_result((2, 3), torch.float32, torch.device("cpu")).shape
        torch.Size([2, 3])
    """
    size = math.prod(shape) * dtype.itemsize
    if device.type != "cpu" or size < 2 * HUGE_PAGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.empty(tuple(shape), dtype=dtype, device=device)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel built without huge pages: the memory is as good
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=dtype).view(tuple(shape))


class HostCopy:
    """A tensor on its way to the device where a result is kept; from a GPU to the CPU, while the GPU works on.

    Args:
        source: the tensor.
        device: where it goes.
    """

    def __init__(self, source: Tensor, device: torch.device) -> None:
        self._event: torch.cuda.Event | None = None
        if source.device.type == "cuda" and device.type == "cpu":
            self._copy = torch.empty(source.shape, dtype=source.dtype, pin_memory=True)
            self._copy.copy_(source, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record(torch.cuda.current_stream(source.device))
        else:
            self._copy = source.to(device)

    @property
    def under_way(self) -> bool:
        """Whether it may still be coming, so that asking for it at once would mean to wait."""
        return self._event is not None

    def result(self) -> Tensor:
        """The tensor, once it has arrived."""
        if self._event is not None:
            self._event.synchronize()
        return self._copy
