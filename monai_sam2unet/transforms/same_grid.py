# SPDX-License-Identifier: Apache-2.0
"""Whether volumes lie on one grid: the same voxels at the same places in the world."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import numpy as np
from monai.data import MetaTensor
from torch import Tensor

from monai_sam2unet.errors import DataError

__all__ = ["check_same_grid"]

#: Two grids are one when no corner voxel of one is farther from its twin than this part of the smallest voxel side.
GRID_TOLERANCE = 0.05


def check_same_grid(volumes: Mapping[Hashable, Tensor]) -> None:
    """Refuse volumes that do not belong together voxel by voxel.

    Args:
        volumes: (C, X, Y, Z) by name; those that are no MetaTensor are held against the others by shape only.

    Raises:
        DataError: When shapes differ, or corner voxels lie more than a twentieth of the smallest voxel side apart.
    """
    (first_key, first), *others = volumes.items()
    for key, other in others:
        if first.shape[1:] != other.shape[1:]:
            raise DataError(
                f"{first_key!r} and {key!r} do not have one grid: {tuple(first.shape[1:])} and "
                f"{tuple(other.shape[1:])} voxels. Resample one onto the other (MONAI's ResampleToMatchd)."
            )
        if not (isinstance(first, MetaTensor) and isinstance(other, MetaTensor)):
            continue
        a, b = (np.asarray(volume.affine.cpu(), dtype=np.float64) for volume in (first, other))
        ends = [(0, n - 1) for n in first.shape[1:]]
        corners = np.stack(np.meshgrid(*ends, [1], indexing="ij"), axis=-1).reshape(-1, 4)
        apart = float(np.linalg.norm(corners @ (a - b).T, axis=1).max())
        if not apart <= GRID_TOLERANCE * np.linalg.norm(a[:3, :3], axis=0).min():
            raise DataError(
                f"{first_key!r} and {key!r} do not have one grid: a corner lies {apart:.3g} mm apart. Their affines are"
                f"\n{a}\nand\n{b}\nResample one onto the other (MONAI's ResampleToMatchd)."
            )
