# SPDX-License-Identifier: Apache-2.0
"""Whether values were scaled to [0, 1], asked so that a GPU need not stop for it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from monai_sam2unet.errors import DataError

__all__ = ["ValueRange"]

#: Values beyond these were not scaled to [0, 1]; noise or a gain may lead a little out of it.
TOLERATED = (-0.5, 1.5)


@dataclass(frozen=True, eq=False)
class ValueRange:
    """The smallest and largest value of a tensor, which may still be on their way from a GPU.

    Args:
        ends: (2,) in the CPU's memory, or None for a tensor without values.
        arrived: recorded behind the copy to ``ends``; None where they are there.
    """

    ends: Tensor | None
    arrived: torch.cuda.Event | None = None

    @classmethod
    def of(cls, x: Tensor) -> ValueRange:
        """Begin to find the range of a plain tensor of any shape; on a GPU this only queues the work."""
        if x.numel() == 0:
            return cls(None)
        ends = torch.stack(torch.aminmax(x)).float()
        if x.device.type != "cuda":
            return cls(ends.cpu())
        with torch.cuda.device(x.device):
            host = torch.empty(2, pin_memory=True).copy_(ends, non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record()
        return cls(host, arrived)

    def check(self) -> None:
        """Refuse values that are clearly outside [0, 1]; waits until they are known, but for nothing queued later.

        Raises:
            DataError: When a value is below -0.5 or above 1.5, or NaN.
        """
        if self.ends is None:
            return
        if self.arrived is not None:
            self.arrived.synchronize()
        low, high = self.ends.tolist()
        # Written so that NaN fails too.
        if not (low >= TOLERATED[0] and high <= TOLERATED[1]):
            raise DataError(
                f"HieraInput takes values in [0, 1], got {low:g} to {high:g}. Scale first: CTWindow, VOIWindow, "
                "PercentileScale, or 8-bit pictures divided by 255; for standardised images set mean and std to None."
            )
