# SPDX-License-Identifier: Apache-2.0
"""A volume as a stack of slices along one plane, and full batches drawn from many such stacks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from monai.data import MetaTensor
from monai.utils.enums import MetaKeys
from torch import Tensor

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.inferers.window_grid import WindowGrid
from monai_sam2unet.transforms.anatomical_plane import AnatomicalPlane
from monai_sam2unet.transforms.tensors import plain

__all__ = ["Piece", "SliceStack", "SliceTransform", "full_batches"]

STRIP = 8


class SliceTransform(Protocol):
    """Turns slices into the network's input, and its output back."""

    def forward_batch(self, x: Tensor) -> tuple[Tensor, Any]:
        """Slices (N, C, H, W) as the network's input (N, C', h, w), and what the way back needs."""
        ...

    def inverse_batch(self, y: Tensor, state: Any) -> Tensor:
        """The network's output (N, K, h, w) on the slices' grid (N, K, H, W)."""
        ...


def _contiguous_copy(view: Tensor, dtype: torch.dtype, pin: bool) -> Tensor:
    """A contiguous copy of slices (N, C, H, W) that may lie across the volume's memory."""
    out = torch.empty(view.shape, dtype=dtype, device=view.device, pin_memory=pin)
    if view.device.type != "cpu" or view.stride(-1) == 1:
        return out.copy_(view)
    # Slices along the fastest axis share cache lines: in narrow strips each line is read once for all slices.
    dim = 2 if view.stride(2) > view.stride(3) else 3
    for part, source in zip(out.split(STRIP, dim), view.split(STRIP, dim), strict=True):
        part.copy_(source)
    return out


@dataclass(frozen=True, eq=False)
class SliceStack:
    """One case seen along one plane.

    Args:
        case: number of the case.
        rank: how many stacks of this case come before.
        plane: the plane.
        volume: (C, X, Y, Z), a plain tensor; it is read, not changed.
        affine: (4, 4) of the volume, if it has one.
        geometry: what the volume's metadata say of the affine, so that the slices' spacing is known, or not, as in
            training.
        grid: the windows of each slice.
        neighbours: slices on each side that are given to the network as channels.
        padding_mode: how slices smaller than a window are continued.
        cval: the value of constant padding.
    """

    case: int
    rank: int
    plane: AnatomicalPlane
    volume: Tensor
    affine: Tensor | None
    geometry: Mapping[str, Any]
    grid: WindowGrid
    neighbours: int = 0
    padding_mode: str = "constant"
    cval: float = 0.0

    @property
    def windows(self) -> int:
        """Windows of one slice."""
        return len(self.grid.starts)

    def __len__(self) -> int:
        """Windows of all slices."""
        return self.volume.shape[1 + self.plane.axes[2]] * self.windows

    def target(self, volume: Tensor, first: int, last: int) -> Tensor:
        """Some slices (N, K, H, W) of a volume (K, X, Y, Z), in the array's order, as a view to write through."""
        return self.plane.slices_view(volume)[first:last]

    def displayed(self, slices: Tensor) -> Tensor:
        """Slices (N, C, H, W) turned from the array's order into the plane's, or back."""
        dims = self.plane.flip_dims()
        return torch.flip(slices, dims) if dims else slices

    def with_affine(self, slices: Tensor) -> Tensor:
        """Slices (N, C, H, W) of the plane with the affine of the stack's first one, for the size of their pixels."""
        if self.affine is None:
            return slices
        affine = torch.as_tensor(self.plane.slice_affine(self.affine, self.volume.shape[1:], 0))
        meta = dict(self.geometry)
        # That is said of a lone slice's distance from its next, which its pixels do not depend on.
        if meta.get("spacing_source") == "unknown":
            del meta["spacing_source"]
        if MetaKeys.ORIGINAL_AFFINE in meta:
            meta[MetaKeys.ORIGINAL_AFFINE] = affine
        return MetaTensor(slices, affine, meta)

    def read(self, first: int, last: int, device: torch.device) -> Tensor:
        """Windows by number, those of one slice after another, slices in the array's order.

        Args:
            first: the first window.
            last: one after the last.
            device: where they go.

        Returns:
            (N, C * (2 * neighbours + 1), h, w), float32, contiguous: neighbours along the plane's direction, with
            the volume's first and last slice repeated beyond its ends.
        """
        begin, end = first // self.windows, (last - 1) // self.windows + 1
        x = self.displayed(self._slices(begin, end, device))
        x = self.grid.pad(x, self.padding_mode, self.cval)
        if self.windows == 1:
            return x
        places = (divmod(item, self.windows) for item in range(first, last))
        return torch.stack([self.grid.window(x[number - begin], window) for number, window in places])

    def _slices(self, begin: int, end: int, device: torch.device) -> Tensor:
        view = self.plane.slices_view(self.volume)
        n, count = self.neighbours, len(view)
        low, high = max(begin - n, 0), min(end + n, count)
        moves = device != view.device
        # What moves is converted after: most volumes are smaller as they are stored.
        dtype = view.dtype if moves else torch.float32
        block = _contiguous_copy(view[low:high], dtype, pin=moves and device.type == "cuda" and not view.is_cuda)
        block = block.to(device, non_blocking=True).to(torch.float32)
        if not n:
            return block
        offsets = torch.arange(-n, n + 1) * (-1 if self.plane.flips[2] else 1)
        numbers = (torch.arange(begin, end)[:, None] + offsets).clamp(0, count - 1) - low
        return block[numbers.to(device)].flatten(1, 2)


@dataclass(frozen=True, eq=False)
class Piece:
    """Windows of one stack within a batch.

    Args:
        stack: where they are from.
        first: the first window's number in the stack.
        last: one after the last.
        x: the network's input (N, C, h, w).
        state: what the slice transform needs for the way back.
    """

    stack: SliceStack
    first: int
    last: int
    x: Tensor
    state: Any


def _piece(stack: SliceStack, first: int, last: int, transform: SliceTransform | None, device: torch.device) -> Piece:
    x = stack.read(first, last, device)
    state = None
    if transform is not None:
        x, state = transform.forward_batch(stack.with_affine(x))
        x = plain(x)
        if x.ndim != 4 or len(x) != last - first:
            raise ConfigError(
                f"slice_transform.forward_batch must give ({last - first}, C, h, w) for so many slices; "
                f"it gave {tuple(x.shape)}."
            )
    return Piece(stack, first, last, x, state)


def full_batches(
    stacks: Sequence[SliceStack], size: int, transform: SliceTransform | None, device: torch.device
) -> Iterator[list[Piece]]:
    """Windows of all stacks in batches, across slices and cases.

    Args:
        stacks: the stacks; those whose windows have one shape next to each other, or batches are not full.
        size: windows in a batch.
        transform: makes the network's input of them.
        device: where the batches go.

    Yields:
        The pieces of a batch, of one shape (C, h, w); ``size`` windows in all, and fewer only before another shape
        and at the end.
    """
    batch: list[Piece] = []
    filled = 0
    for stack in stacks:
        first = 0
        while first < len(stack):
            last = min(first + size - filled, len(stack))
            piece = _piece(stack, first, last, transform, device)
            if batch and piece.x.shape[1:] != batch[0].x.shape[1:]:
                yield batch
                batch, filled = [], 0
            batch.append(piece)
            filled += last - first
            first = last
            if filled == size:
                yield batch
                batch, filled = [], 0
    if batch:
        yield batch
