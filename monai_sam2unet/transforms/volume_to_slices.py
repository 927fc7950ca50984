# SPDX-License-Identifier: Apache-2.0
"""Volumes to 2D slices along an anatomical axis, one at a time, and back."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform
from monai.transforms.traits import MultiSampleTrait
from monai.utils.enums import TraceKeys, TransformBackends
from torch import Tensor

from monai_sam2unet.errors import ConfigError, DataError, listing
from monai_sam2unet.transforms.anatomical_plane import AnatomicalPlane, check_plane
from monai_sam2unet.transforms.pixel_size import patient_affine, set_affine
from monai_sam2unet.transforms.same_grid import check_same_grid
from monai_sam2unet.transforms.slice_sequence import SliceItem, SliceSequence, stack_slices

__all__ = ["VolumeToSlices", "VolumeToSlicesd"]


class VolumeToSlices(InvertibleTransform, MultiSampleTrait):
    """The slices of a volume along an anatomical axis, told by its affine, in the orientation in which they are shown.

    See :class:`SliceSequence`: slices are made on access, keep their spacing and their place in the world.

    Args:
        plane: ``"axial"``, ``"coronal"`` or ``"sagittal"``; or an array axis 0 to 2 along which slices are numbered,
            left in the array's orientation.
        neighbours: slices on either side that become channels too (2.5D).

    Raises:
        ConfigError: When the plane or the neighbours are not as said.

    Example:
        >>> volume = MetaTensor(torch.rand(1, 40, 30, 20), affine=torch.diag(torch.tensor([1.0, 1.0, 3.0, 1.0])))
        >>> cut = VolumeToSlices("coronal")
        >>> slices = cut(volume)
        >>> len(slices), tuple(slices[0].shape)
        (30, (1, 20, 40))
        >>> bool((cut.inverse(slices) == volume).all())
        True
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 (MONAI declares it so)

    def __init__(self, plane: str | int = "axial", neighbours: int = 0) -> None:
        if not isinstance(neighbours, int) or isinstance(neighbours, bool) or neighbours < 0:
            raise ConfigError(f"neighbours must be a whole number of at least 0, got {neighbours!r}.")
        self.plane = check_plane(plane)
        self.neighbours = neighbours

    def find_plane(self, volume: Tensor) -> AnatomicalPlane:
        """How the slices lie in a volume.

        Args:
            volume: (C, X, Y, Z), a MetaTensor unless the plane is an array axis.

        Raises:
            DataError: When the plane has a name and the volume no affine of its own, or one that says nothing of the
                patient (see :func:`patient_affine`).
        """
        if isinstance(self.plane, int):
            return AnatomicalPlane.from_spatial_dim(self.plane)
        return AnatomicalPlane.from_affine(self.plane, patient_affine(volume, f"{self.plane} slices"))

    def __call__(self, img: Tensor) -> SliceSequence:
        """Cut a volume.

        Args:
            img: (C, X, Y, Z), a MetaTensor unless the plane is an array axis.

        Returns:
            A sequence of MetaTensors (C * (2 * neighbours + 1), H, W).

        Raises:
            DataError: When it is not (C, X, Y, Z), an axis is empty, or the plane has a name and there is no usable
                affine.
        """
        return self.cut(img, None, self.neighbours)

    def cut(self, img: Tensor, plane: AnatomicalPlane | None, neighbours: int) -> SliceSequence:
        """Cut a volume along a plane that is known already; see :meth:`__call__`."""
        found = self.find_plane(img) if plane is None else plane
        volume = img if isinstance(img, MetaTensor) else MetaTensor(img)
        return SliceSequence(volume, found, neighbours, self.get_transform_info() if self.tracing else None)

    def inverse(self, data: Sequence[MetaTensor]) -> MetaTensor:
        """Put slices, or predictions that carry their trace, back into a volume. Their order does not matter.

        Slices with neighbours keep all their channels.

        Args:
            data: all the slices of one volume, each (K, H, W).

        Returns:
            (K, X, Y, Z) with the source's affine.

        Raises:
            DataError: When there are none, one is no MetaTensor, slices of several volumes are mixed, or some are
                missing or there twice.
        """
        if isinstance(data, Tensor) or len(data) == 0 or not all(isinstance(piece, MetaTensor) for piece in data):
            raise DataError("Slices become a volume together: give a sequence of all its slices, as MetaTensors.")
        pieces = [MetaTensor(piece.as_tensor()).copy_meta_from(piece) for piece in data]
        traces = [self.pop_transform(piece) for piece in pieces]
        first, where = traces[0], [int(trace[TraceKeys.EXTRA_INFO]["index"]) for trace in traces]
        extra = first[TraceKeys.EXTRA_INFO]
        for trace in traces:
            other = trace[TraceKeys.EXTRA_INFO]
            same = all(tuple(other[name]) == tuple(extra[name]) for name in ("axes", "flips"))
            same = same and tuple(trace[TraceKeys.ORIG_SIZE]) == tuple(first[TraceKeys.ORIG_SIZE])
            if not (same and torch.equal(torch.as_tensor(other["affine"]), torch.as_tensor(extra["affine"]))):
                raise DataError(
                    "These slices come from volumes of different grids. Give those of one volume at a time."
                )
        a, b, c = (int(axis) for axis in extra["axes"])
        f, g, h = (bool(flip) for flip in extra["flips"])
        plane, shape = AnatomicalPlane(extra["plane"], (a, b, c), (f, g, h)), first[TraceKeys.ORIG_SIZE]
        count = int(shape[c])
        if sorted(where) != list(range(count)):
            missing = [f"slice {i}: {where.count(i)} times" for i in range(count) if where.count(i) != 1]
            raise DataError(f"A volume needs each of its {count} {plane.name} slices once:\n{listing(missing)}")
        ordered = [piece for _, piece in sorted(zip(where, pieces, strict=True), key=lambda pair: pair[0])]
        out: MetaTensor = MetaTensor(stack_slices(ordered, plane, shape)).copy_meta_from(ordered[0])
        set_affine(out, extra["affine"])
        for name in ("plane", "slice_index"):
            out.meta.pop(name, None)
        return out


class VolumeToSlicesd(MapTransform, InvertibleTransform, MultiSampleTrait):
    """Dictionary version of :class:`VolumeToSlices`: a dictionary of volumes becomes a list of slices' mappings.

    The list is a plain one, to be joined, shuffled, given to a MONAI ``Dataset`` as its data, or passed on inside a
    ``Compose``. Its items make their slices when a key is read, so the list costs no memory beside the volumes.

    Args:
        keys: keys of volumes (C, X, Y, Z) of one grid; the first decides how the plane lies.
        plane: as in :class:`VolumeToSlices`.
        neighbours: as in :class:`VolumeToSlices`, for all keys but ``label_key``, which keeps its one slice; or one
            number a key.
        keep_empty: share, in [0, 1], of the slices without any label that is kept, rounded up; 1 keeps all. None keeps
            all without looking.
        label_key: key of the label, needed to find empty slices.
        seed: decides which of the empty slices are kept: the same ones at every call.
        allow_missing_keys: whether a missing key is passed over.

    Raises:
        ConfigError: When a value is not allowed, or ``keep_empty`` is given without ``label_key``.
    """

    backend = VolumeToSlices.backend

    def __init__(
        self,
        keys: KeysCollection,
        plane: str | int = "axial",
        neighbours: int | Sequence[int] = 0,
        keep_empty: float | None = None,
        label_key: Hashable | None = None,
        seed: int = 0,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        if keep_empty is not None and not 0 <= keep_empty <= 1:
            raise ConfigError(f"keep_empty is the share of empty slices that is kept, in [0, 1], got {keep_empty!r}.")
        if keep_empty is not None and label_key is None:
            raise ConfigError("keep_empty needs label_key: the key of the label that tells which slices are empty.")
        if label_key is not None and label_key not in self.keys:
            raise ConfigError(f"label_key {label_key!r} must be one of the keys {list(self.keys)}.")
        if isinstance(neighbours, int):
            neighbours = [0 if key == label_key else neighbours for key in self.keys]
        if len(neighbours) != len(self.keys):
            raise ConfigError(f"neighbours must be one number, or one a key: {len(self.keys)} keys, got {neighbours}.")
        self.cuts = tuple(VolumeToSlices(plane, n) for n in neighbours)
        self.keep_empty = keep_empty
        self.label_key = label_key
        self.seed = seed

    def __call__(self, data: Mapping[Hashable, Any]) -> list[SliceItem]:
        """Cut the volumes.

        Args:
            data: MetaTensors (C, X, Y, Z) under the keys.

        Returns:
            One mapping a slice that is kept, in the plane's order.

        Raises:
            DataError: When the volumes do not have one grid (shapes, or affines by more than a twentieth of a voxel),
                or one cannot be cut (see :class:`VolumeToSlices`).
        """
        cuts = dict(self.key_iterator(data, self.cuts))
        if not cuts:
            raise DataError(f"None of the keys {list(self.keys)} is there; there are {list(data)}.")
        volumes = {key: data[key] for key in cuts}
        check_same_grid(volumes)
        plane = next(iter(cuts.values())).find_plane(next(iter(volumes.values())))
        sequences = {key: cut.cut(volumes[key], plane, cut.neighbours) for key, cut in cuts.items()}
        rest = {key: value for key, value in data.items() if key not in cuts}
        count = len(next(iter(sequences.values())))
        kept = range(count) if self.keep_empty is None else self._kept(sequences, count, self.keep_empty)
        return [SliceItem(sequences, rest, index) for index in kept]

    def _kept(self, sequences: Mapping[Hashable, SliceSequence], count: int, share: float) -> list[int]:
        if self.label_key not in sequences:
            raise DataError(f"The label {self.label_key!r} is not there, so empty slices cannot be told.")
        label = sequences[self.label_key]
        labelled = torch.stack([label.pixels(index).any() for index in range(count)]).tolist()
        empty = [index for index in range(count) if not labelled[index]]
        number = math.ceil(round(share * len(empty), 6))
        # A state of its own: the choice depends on neither the worker nor the order of the volumes.
        chosen = np.random.RandomState(self.seed).permutation(len(empty))[:number]
        return sorted({index for index in range(count) if labelled[index]} | {empty[i] for i in chosen})

    def inverse(self, data: Sequence[Mapping[Hashable, Any]]) -> dict[Hashable, Any]:
        """Put the slices under the keys back into volumes; see :meth:`VolumeToSlices.inverse`.

        Args:
            data: the mappings of all the slices of one volume; the other keys are taken from the first.

        Returns:
            One dictionary of volumes.

        Raises:
            DataError: When it is no sequence of mappings, or the slices do not make one volume.
        """
        if isinstance(data, Mapping) or len(data) == 0:
            raise DataError(
                "Slices become a volume together: give the list of all its slices' mappings. To bring a single slice "
                "back to its own size, give Invertd a Compose of only those transforms that come after this one."
            )
        d = {key: value for key, value in data[0].items() if key not in self.keys}
        for key, cut in self.key_iterator(data[0], self.cuts):
            d[key] = cut.inverse([item[key] for item in data])
        return d
