# SPDX-License-Identifier: Apache-2.0
"""The volumes that predictions of slices are gathered into: mean, variance or entropy, within a bound of memory."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from monai_sam2unet.inferers.host_memory import HostCopy, empty_result
from monai_sam2unet.inferers.slice_stack import SliceStack
from monai_sam2unet.inferers.uncertainty import normalised_entropy
from monai_sam2unet.transforms.class_masks import largest_channel

__all__ = ["PredictionVolumes", "RunningMoments"]


class RunningMoments:
    """Mean, and sum of squared deviations from it, of predictions that come one by one (Welford's method).

    Args:
        spread: whether the deviations are kept.
    """

    def __init__(self, spread: bool) -> None:
        self.spread = spread
        self.count = 0
        self.mean = torch.empty(0)
        self.deviations: Tensor | None = None

    def add(self, x: Tensor) -> None:
        """Take in one prediction, all of them of one shape."""
        self.count += 1
        if self.count == 1:
            self.mean = x
            self.deviations = torch.zeros_like(x) if self.spread else None
            return
        before = x - self.mean
        self.mean = self.mean + before / self.count
        if self.deviations is not None:
            self.deviations.addcmul_(before, x - self.mean)


class PredictionVolumes:
    """Results of one call, allocated once the number of channels is known.

    Args:
        shapes: spatial shape of each case.
        stacked: whether the cases make one tensor, all of one shape.
        uncertainty: None, ``"entropy"`` or ``"variance"``.
        activation: what made probabilities of the network's output, for the entropy.
        dtype: type of the results.
        device: where they are kept.
        max_device_bytes: where they take more than this on a device that is no CPU, the CPU keeps them.
        argmax: whether only the number of the largest channel is kept, uint8.
    """

    def __init__(
        self,
        shapes: Sequence[Sequence[int]],
        stacked: bool,
        uncertainty: str | None,
        activation: str | None,
        dtype: torch.dtype,
        device: torch.device,
        max_device_bytes: int | None,
        argmax: bool = False,
    ) -> None:
        self.shapes = [tuple(shape) for shape in shapes]
        self.stacked = stacked
        self.uncertainty = uncertainty
        self.activation = activation
        self.dtype = torch.uint8 if argmax else dtype
        self.argmax = argmax
        self.device = device
        self.max_device_bytes = max_device_bytes
        self._mean: Tensor | list[Tensor] = []
        self._uncertainty: Tensor | list[Tensor] = []
        self._batches: list[list[tuple[SliceStack, int, int, HostCopy, HostCopy | None, int]]] = [[], []]

    def _uncertainty_channels(self, channels: int) -> int:
        if self.uncertainty is None:
            return 0
        return 1 if (self.uncertainty, self.activation) == ("entropy", "softmax") else channels

    def _allocated(self, channels: int) -> Tensor | list[Tensor]:
        if self.stacked:
            return empty_result((len(self.shapes), channels, *self.shapes[0]), self.dtype, self.device)
        return [empty_result((channels, *shape), self.dtype, self.device) for shape in self.shapes]

    def _allocate(self, channels: int) -> None:
        voxels = sum(math.prod(shape) for shape in self.shapes)
        needed = voxels * (channels + self._uncertainty_channels(channels)) * self.dtype.itemsize
        if self.max_device_bytes is not None and self.device.type != "cpu" and needed > self.max_device_bytes:
            self.device = torch.device("cpu")
        self._mean = self._allocated(channels)
        if self.uncertainty == "variance":
            self._uncertainty = self._allocated(channels)

    def write(self, stack: SliceStack, first: int, last: int, moments: RunningMoments) -> None:
        """Take in the prediction of some slices.

        Args:
            stack: where the slices are from.
            first: the first of them, in the array's order.
            last: one after the last.
            moments: mean and deviations (N, K, H, W) over the passes made.

        Raises:
            DataError: When classes are asked for, and a value is NaN, or the largest one infinite.
        """
        # Here, while it is a batch: all channels of whole volumes would take many times the memory.
        kept = largest_channel(moments.mean.transpose(0, 1)).transpose(0, 1) if self.argmax else moments.mean
        if not len(self._mean):
            self._allocate(kept.shape[1])
        mean = HostCopy(kept, self.device)
        deviations = None if moments.deviations is None else HostCopy(moments.deviations, self.device)
        piece = stack, first, last, mean, deviations, moments.count
        if mean.under_way:
            self._batches[-1].append(piece)
        else:
            self._merge(*piece)

    def settle(self) -> None:
        """Called after each batch: merge what came from a GPU, but for the newest, whose copy is under way."""
        for piece in self._batches.pop(0):
            self._merge(*piece)
        self._batches.append([])

    def _merge(
        self, stack: SliceStack, first: int, last: int, means: HostCopy, spread: HostCopy | None, count: int
    ) -> None:
        """Average with what earlier planes predicted (Chan, Golub and LeVeque's pairwise update)."""
        kept = stack.target(self._mean[stack.case], first, last)
        mean = stack.displayed(means.result())
        if spread is not None:
            deviations = stack.target(self._uncertainty[stack.case], first, last)
            dev = stack.displayed(spread.result())
            if stack.rank:
                dev = dev + deviations + (mean - kept).square_().mul_(count * stack.rank / (stack.rank + 1))
            deviations.copy_(dev)
        if stack.rank:
            kept.lerp_(mean, 1 / (stack.rank + 1))
        else:
            kept.copy_(mean)

    def finish(self, passes: int) -> tuple[Tensor | list[Tensor], Tensor | list[Tensor] | None]:
        """Merge what is left, and make the uncertainty.

        Args:
            passes: predictions that were averaged at each voxel.

        Returns:
            Mean (K, X, Y, Z) and uncertainty (K or 1, X, Y, Z) or None, lists with one of each case; of stacked cases
            (B, K, X, Y, Z).
        """
        while any(self._batches):
            self.settle()
        if self.uncertainty is None:
            return self._mean, None
        if self.uncertainty == "variance":
            for deviations in self._uncertainty:
                deviations.div_(passes)
        else:
            self._uncertainty = self._allocated(self._uncertainty_channels(self._mean[0].shape[0]))
            for mean, out in zip(self._mean, self._uncertainty, strict=True):
                # Slab by slab: the formula's temporary tensors would be several volumes.
                for slab, part in zip(mean.split(8, dim=1), out.split(8, dim=1), strict=True):
                    part.copy_(normalised_entropy(slab.float(), str(self.activation)))
        return self._mean, self._uncertainty
