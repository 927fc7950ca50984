# SPDX-License-Identifier: Apache-2.0
"""Millimetres of a pixel or voxel, and whether they are known at all."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import torch
from monai.data import MetaTensor
from monai.utils.enums import MetaKeys
from numpy.typing import ArrayLike
from torch import Tensor

from monai_sam2unet.errors import DataError

__all__ = ["element_size", "in_plane_spacing", "set_affine"]


def _directions(img: Tensor, wanted: str) -> np.ndarray:
    """The affine without its translation (3, 3) or (2, 2), where it is more than a placeholder."""
    # The DICOM reader says where a spacing is from: empty is nowhere, unknown is the distance of a lone slice's next.
    source = img.meta.get("spacing_source") if isinstance(img, MetaTensor) else None
    if isinstance(img, MetaTensor) and source != "" and (source != "unknown" or img.ndim < 4):
        matrix = np.asarray(img.affine.cpu(), dtype=np.float64)[:-1, :-1]
        # Readers of volumes note the file's own affine; a picture only has MONAI's default, the identity.
        if MetaKeys.ORIGINAL_AFFINE in img.meta or not np.array_equal(matrix, np.eye(len(matrix))):
            return matrix
    raise DataError(
        f"{wanted} needs the size of a pixel in mm, and this image has none: it is a plain tensor, a picture "
        "without spacing, or a lone slice without thickness. Use pixels as the unit, or set its affine."
    )


def in_plane_spacing(img: Tensor) -> tuple[float, float]:
    """Distance of neighbouring rows and of neighbouring columns of a slice.

    Args:
        img: MetaTensor (C, H, W) with an affine (4, 4) or (3, 3), oblique or not.

    Returns:
        mm from one row to the next, and from one column to the next.

    Raises:
        DataError: When the spacing is not known.

    Example:
        >>> import torch
        >>> in_plane_spacing(MetaTensor(torch.zeros(1, 4, 4), affine=torch.diag(torch.tensor([0.5, 2.0, 3.0, 1.0]))))
        (0.5, 2.0)
    """
    rows, columns = np.linalg.norm(_directions(img, "A spacing in mm"), axis=0)[:2]
    return float(rows), float(columns)


def element_size(img: Tensor) -> float:
    """Area of a pixel or volume of a voxel.

    Args:
        img: MetaTensor (C, H, W) or (C, X, Y, Z); a slice may carry the affine (4, 4) of a volume (H, W, 1).

    Returns:
        mm2 for (C, H, W), mm3 for (C, X, Y, Z); sheared axes (a tilted gantry) are measured right.

    Raises:
        DataError: When the spacing is not known.

    Example:
        >>> import torch
        >>> element_size(MetaTensor(torch.zeros(1, 4, 4), affine=torch.diag(torch.tensor([0.5, 2.0, 3.0, 1.0]))))
        1.0
    """
    sides = _directions(img, "A size in mm")[:, : img.ndim - 1]
    return float(np.sqrt(np.linalg.det(sides.T @ sides)))


def set_affine(img: MetaTensor, affine: ArrayLike | Tensor) -> None:
    """Give an image its affine, and with it the ``pixdim`` of a NIfTI header, where it carries one.

    Args:
        img: its meta dictionary is changed, but not the values in it, which other images may share.
        affine: (4, 4) or (3, 3) to world mm.
    """
    img.affine = torch.as_tensor(affine, dtype=torch.float64)
    if MetaKeys.PIXDIM in img.meta:
        pixdim = deepcopy(img.meta[MetaKeys.PIXDIM])
        spacing = img.affine[:-1, :-1].norm(dim=0)
        for axis in range(min(len(spacing), len(pixdim) - 1)):
            pixdim[axis + 1] = float(spacing[axis])
        img.meta[MetaKeys.PIXDIM] = pixdim
