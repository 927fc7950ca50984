# SPDX-License-Identifier: Apache-2.0
"""Which array axes make an axial, coronal or sagittal slice, told by the affine and not by the array's order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from monai_sam2unet.errors import ConfigError, DataError

__all__ = ["PLANES", "AnatomicalPlane", "check_plane"]

#: Where a slice's rows, its columns and the slices themselves run to, as pictures are shown: the patient's right on
#: the left of axial and coronal slices, the head on top of coronal and sagittal ones (RAS axis, sign).
PLANES: dict[str, tuple[tuple[int, int], tuple[int, int], tuple[int, int]]] = {
    "axial": ((1, -1), (0, -1), (2, 1)),  # rows to posterior, columns to left, slices to the head
    "coronal": ((2, -1), (0, -1), (1, -1)),  # rows to the feet, columns to left, slices to posterior
    "sagittal": ((2, -1), (1, -1), (0, -1)),  # rows to the feet, columns to posterior, slices to left
}


def check_plane(plane: Any, name: str = "plane") -> str | int:
    """Refuse what is no plane, before there is a volume.

    Args:
        plane: the name of an anatomical plane, or an array axis.
        name: what the argument is called, for the error.

    Returns:
        The plane, as given.

    Raises:
        ConfigError: When it is neither one of :data:`PLANES` nor 0, 1 or 2.
    """
    if isinstance(plane, str) and plane in PLANES:
        return plane
    if isinstance(plane, int) and not isinstance(plane, bool) and 0 <= plane <= 2:
        return plane
    raise ConfigError(f"{name} must be one of {', '.join(PLANES)}, or an array axis 0, 1 or 2; got {plane!r}.")


@dataclass(frozen=True)
class AnatomicalPlane:
    """How a volume (C, X, Y, Z) becomes slices (C, H, W) of one plane, and back.

    Args:
        name: the plane, or ``"array"`` for slices in the array's own order.
        axes: spatial axes (0 to 2) of the volume that become the slices' rows, their columns, and their number.
        flips: which of these three run against the array's order.
    """

    name: str
    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    @classmethod
    def from_affine(cls, plane: str, affine: ArrayLike) -> AnatomicalPlane:
        """The plane as the affine tells it; oblique axes count as the nearest anatomical ones.

        Args:
            plane: ``"axial"``, ``"coronal"`` or ``"sagittal"``.
            affine: (4, 4) from voxel indices to RAS mm.

        Raises:
            ConfigError: When the plane is none of these.
            DataError: When the affine is not (4, 4), not finite, or does not span three axes.

        Example:
            >>> AnatomicalPlane.from_affine("axial", np.diag([-1.0, -1.0, 1.0, 1.0]))
            AnatomicalPlane(name='axial', axes=(1, 0, 2), flips=(False, False, False))
        """
        if plane not in PLANES:
            raise ConfigError(f"The plane must be one of {', '.join(PLANES)}, got {plane!r}.")
        matrix = np.asarray(affine, dtype=np.float64)
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
            raise DataError(f"Slices by plane need a finite affine (4, 4), got shape {matrix.shape}:\n{matrix}")
        if np.linalg.matrix_rank(matrix[:3, :3]) < 3:
            raise DataError(f"The affine does not span three axes, so its {plane} slices are not known:\n{matrix}")
        orientation = nib.io_orientation(matrix)
        found = {int(ras): (axis, int(sign)) for axis, (ras, sign) in enumerate(orientation)}
        wanted = PLANES[plane]
        axes = tuple(found[ras][0] for ras, _ in wanted)
        flips = tuple(found[ras][1] != sign for ras, sign in wanted)
        return cls(plane, axes, flips)  # type: ignore[arg-type]

    @classmethod
    def from_spatial_dim(cls, spatial_dim: int) -> AnatomicalPlane:
        """Slices along an array axis, their rows and columns in the array's order, as MONAI's ``SliceInferer`` has it.

        Args:
            spatial_dim: the axis (0, 1 or 2) along which the slices are numbered.

        Raises:
            ConfigError: When it is none of these.
        """
        if spatial_dim not in (0, 1, 2):
            raise ConfigError(f"spatial_dim must be 0, 1 or 2, got {spatial_dim!r}.")
        rows, columns = (axis for axis in range(3) if axis != spatial_dim)
        return cls("array", (rows, columns, spatial_dim), (False, False, False))

    def slices_view(self, volume: Tensor) -> Tensor:
        """The volume with its slices first and nothing copied; :attr:`flips` are still to be made.

        Args:
            volume: (..., C, X, Y, Z).

        Returns:
            A view (..., S, C, H, W).
        """
        lead = volume.ndim - 4
        rows, columns, number = (lead + 1 + axis for axis in self.axes)
        return volume.permute(*range(lead), number, lead, rows, columns)

    def flip_dims(self) -> tuple[int, ...]:
        """Dimensions of a slice (..., H, W), counted from the end, that are to be flipped."""
        return tuple(dim for dim, flip in zip((-2, -1), self.flips[:2], strict=True) if flip)

    def number_of(self, index: int, count: int) -> int:
        """Array index, along the slices' axis, of slice ``index`` of ``count``."""
        return count - 1 - index if self.flips[2] else index

    def slice_affine(self, affine: ArrayLike, shape: Sequence[int], index: int) -> np.ndarray:
        """The affine of one slice taken as a volume (H, W, 1).

        Args:
            affine: (4, 4) of the volume.
            shape: (X, Y, Z) of the volume.
            index: the slice, counted along the plane.

        Returns:
            (4, 4) from (row, column, 0) to the volume's world.
        """
        moved = np.eye(4)
        moved[:3, :3] = 0
        for column, (axis, flip) in enumerate(zip(self.axes, self.flips, strict=True)):
            moved[axis, column] = -1 if flip else 1
            start = index if column == 2 else 0
            moved[axis, 3] = shape[axis] - 1 - start if flip else start
        return np.asarray(np.asarray(affine, dtype=np.float64) @ moved)
