# SPDX-License-Identifier: Apache-2.0
"""The slices of a volume, each made when it is asked for, and their way back into a volume."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from copy import copy
from typing import Any, overload

import torch
from monai.data import MetaTensor
from monai.utils.enums import TraceKeys
from torch import Tensor

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.transforms.anatomical_plane import AnatomicalPlane
from monai_sam2unet.transforms.pixel_size import set_affine
from monai_sam2unet.transforms.tensors import plain

__all__ = ["SliceItem", "SliceSequence", "stack_slices"]


def stack_slices(slices: Tensor | Sequence[Tensor], plane: AnatomicalPlane, shape: Sequence[int]) -> Tensor:
    """Put slices back into the array's order of the volume they came from.

    Args:
        slices: (S, K, H, W), or S tensors (K, H, W): all of the volume's, counted along the plane.
        plane: how they lie in the volume.
        shape: (X, Y, Z) of the volume.

    Returns:
        A new tensor (K, X, Y, Z) of the slices' dtype, on their device; no MetaTensor.

    Raises:
        DataError: When a slice is missing or too many, or one is not (K, H, W) with the volume's H and W.
    """
    height, width, count = (int(shape[axis]) for axis in plane.axes)
    if len(slices) != count:
        raise DataError(f"A volume {tuple(shape)} has {count} {plane.name} slices, got {len(slices)}.")
    first = slices[0]
    expected = (first.shape[0], height, width)
    volume = torch.empty((first.shape[0], *shape), dtype=first.dtype, device=first.device)
    view = plane.slices_view(volume)
    flips = plane.flip_dims()
    for index, piece in enumerate(slices):
        if tuple(piece.shape) != expected:
            raise DataError(
                f"Slice {index} has shape {tuple(piece.shape)}, the volume needs {expected}. Bring predictions to the "
                "slices' own size first (HieraInput's inverse)."
            )
        values = plain(piece)
        view[plane.number_of(index, count)] = values.flip(flips) if flips else values
    return volume


class SliceSequence(Sequence[MetaTensor]):
    """The slices of one plane of a volume, as pictures are shown; nothing but the volume itself is held.

    A slice is a view of the volume, unless its axes must be flipped or it has neighbours: then it is a small copy.
    Clone a slice before changing it in place or sending it to another process: a view takes the volume with it.

    MONAI's ``Dataset`` and ``CacheDataset`` take slices as their data; worker processes that are forked share the
    volume. ``PersistentDataset`` and its kin do not suit: they pickle each item to hash it, and a pickled item holds
    the whole volume.

    Each has the affine (4, 4) of the volume (H, W, 1) that it is, the volume's meta (with the file's name), and in it
    ``plane`` and ``slice_index``. ``in_plane_spacing`` tells its spacing; MONAI's ``pixdim`` reads that of a picture
    from the affine's upper left corner, which is right for axial slices along the scanner's axes only.

    Args:
        volume: MetaTensor (C, X, Y, Z) with an affine (4, 4).
        plane: how the slices lie in it.
        neighbours: slices on either side that become channels too; at the volume's ends the outermost is repeated.
            Channels are sorted by slice first: all of slice i - n, ..., all of slice i + n.
        trace: what a transform notes of itself in the slices, if it is to be inverted.

    Raises:
        ConfigError: When ``neighbours`` is not a whole number of at least 0.
        DataError: When the volume is not (C, X, Y, Z), or an axis is empty.

    Example:
        >>> volume = MetaTensor(torch.rand(1, 40, 30, 20), affine=torch.diag(torch.tensor([-1.0, -1.0, 2.0, 1.0])))
        >>> slices = SliceSequence(volume, AnatomicalPlane.from_affine("axial", volume.affine))
        >>> len(slices), tuple(slices[3].shape)
        (20, (1, 30, 40))
    """

    def __init__(
        self,
        volume: MetaTensor,
        plane: AnatomicalPlane,
        neighbours: int = 0,
        trace: Mapping[Any, Any] | None = None,
    ) -> None:
        if not isinstance(neighbours, int) or isinstance(neighbours, bool) or neighbours < 0:
            raise ConfigError(f"neighbours must be a whole number of at least 0, got {neighbours!r}.")
        if volume.ndim != 4 or 0 in volume.shape[1:]:
            raise DataError(f"A volume is (C, X, Y, Z) with no empty axis, got shape {tuple(volume.shape)}.")
        self.volume = volume
        self.plane = plane
        self.neighbours = neighbours
        self.trace = trace

    @property
    def _slices(self) -> Tensor:
        # Made anew each time: a view that is held would be pickled as a second volume.
        return self.plane.slices_view(self.volume.as_tensor())

    def __len__(self) -> int:
        return int(self._slices.shape[0])

    @overload
    def __getitem__(self, index: int) -> MetaTensor: ...
    @overload
    def __getitem__(self, index: slice) -> list[MetaTensor]: ...

    def __getitem__(self, index: int | slice) -> MetaTensor | list[MetaTensor]:
        if isinstance(index, slice):
            return [self._make(i) for i in range(*index.indices(len(self)))]
        number = index + len(self) if index < 0 else index
        if not 0 <= number < len(self):
            raise IndexError(f"Slice {index} of {len(self)}.")
        return self._make(number)

    def pixels(self, index: int) -> Tensor:
        """The pixels of one slice and its neighbours, without meta.

        Args:
            index: the slice, from 0.

        Returns:
            (C * (2 * neighbours + 1), H, W), a view of the volume where it can be.
        """
        last = len(self) - 1
        around = range(index - self.neighbours, index + self.neighbours + 1)
        slices = self._slices
        pieces = [slices[self.plane.number_of(min(max(i, 0), last), last + 1)] for i in around]
        joined = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
        flips = self.plane.flip_dims()
        return joined.flip(flips) if flips else joined

    def _make(self, index: int) -> MetaTensor:
        out: MetaTensor = MetaTensor(self.pixels(index)).copy_meta_from(self.volume)
        shape = tuple(int(n) for n in self.volume.shape[1:])
        set_affine(out, self.plane.slice_affine(self.volume.affine.cpu(), shape, index))
        out.meta["plane"] = self.plane.name
        out.meta["slice_index"] = index
        if self.trace is not None:
            extra = {
                "plane": self.plane.name,
                "axes": self.plane.axes,
                "flips": self.plane.flips,
                "affine": self.volume.affine,
                "index": index,
            }
            out.push_applied_operation(
                {**self.trace, TraceKeys.ORIG_SIZE: shape, TraceKeys.LAZY: False, TraceKeys.EXTRA_INFO: extra}
            )
        return out

    def inverse(self, slices: Tensor | Sequence[Tensor]) -> MetaTensor:
        """Put slices, or predictions for them, into a volume with this one's affine, meta and trace.

        Args:
            slices: (S, K, H, W), or S tensors (K, H, W), in this sequence's order.

        Returns:
            (K, X, Y, Z), new.

        Raises:
            DataError: When they do not have this sequence's length, height and width.
        """
        volume = stack_slices(slices, self.plane, tuple(int(n) for n in self.volume.shape[1:]))
        out: MetaTensor = MetaTensor(volume).copy_meta_from(self.volume)
        out.affine = copy(self.volume.affine)
        return out


class SliceItem(Mapping[Hashable, Any]):
    """One slice of each of several volumes, made when its key is read; whatever else there was is passed on.

    Args:
        sequences: the slices by key.
        rest: everything else by key.
        index: the slice.
    """

    def __init__(self, sequences: Mapping[Hashable, SliceSequence], rest: Mapping[Hashable, Any], index: int) -> None:
        self._sequences = sequences
        self._rest = rest
        self.index = index

    def __getitem__(self, key: Hashable) -> Any:
        return self._sequences[key][self.index] if key in self._sequences else self._rest[key]

    def __iter__(self) -> Iterator[Hashable]:
        yield from self._rest
        yield from self._sequences

    def __len__(self) -> int:
        return len(self._rest) + len(self._sequences)
