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

__all__ = ["element_size", "in_plane_spacing", "known_affine", "known_spacing", "patient_affine", "set_affine"]


def known_affine(img: Tensor) -> np.ndarray | None:
    """The affine, if it is more than MONAI's placeholder.

    A MetaTensor that was never given an affine has the identity. Readers of volumes note the file's own affine in the
    meta (``original_affine``): with it, the identity stands for pixels of 1 mm along RAS.

    Args:
        img: one image, not a batch.

    Returns:
        (4, 4) or (3, 3), float64; None for a plain tensor and a placeholder.

    Example:
        >>> known_affine(MetaTensor(torch.zeros(1, 4, 4, 4))) is None
        True
        >>> known_affine(MetaTensor(torch.zeros(1, 4, 4), affine=torch.diag(torch.tensor([2.0, 3.0, 1.0])))).tolist()
        [[2.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 1.0]]
    """
    if not isinstance(img, MetaTensor):
        return None
    affine = np.asarray(img.affine.cpu(), dtype=np.float64)
    read = MetaKeys.ORIGINAL_AFFINE in img.meta
    return affine if read or not np.array_equal(affine, np.eye(len(affine))) else None


def patient_affine(volume: Tensor, wanted: str) -> np.ndarray:
    """The affine of a volume, if it says how the volume lies in the patient.

    Args:
        volume: (C, X, Y, Z).
        wanted: what it is needed for, to begin the error's text: ``"axial slices"``.

    Returns:
        (4, 4) to RAS mm, float64.

    Raises:
        DataError: When it is a plain tensor, its affine is only MONAI's placeholder (see :func:`known_affine`), or its
            meta says ``in_patient_space`` False, as the DICOM reader's do for a cine.
    """
    if isinstance(volume, MetaTensor) and not volume.meta.get("in_patient_space", True):
        raise DataError(
            f"{wanted} need a place in the patient, and this DICOM image has none: its frames are pictures, as in a "
            "cine. Give the array axis (0, 1 or 2) instead of the plane's name, or read one frame, dicom={'frame': n}."
        )
    affine = known_affine(volume)
    if affine is None:
        found = (
            "this MetaTensor was never given one: it has MONAI's placeholder, the identity"
            if isinstance(volume, MetaTensor)
            else f"got a {type(volume).__name__}"
        )
        raise DataError(
            f"{wanted} need the affine of a MetaTensor; {found}. Load volumes with LoadAnyImage or MONAI's LoadImage, "
            "set their affine (and meta['original_affine'] if it is the identity), or give the array axis (0, 1 or 2) "
            "instead of the plane's name."
        )
    return affine


def _known_directions(img: Tensor) -> np.ndarray | None:
    """The affine without its translation (3, 3) or (2, 2), where its millimetres are known."""
    affine = known_affine(img)
    # The DICOM reader says where a spacing is from: empty is nowhere, unknown is the distance of a lone slice's next.
    source = img.meta.get("spacing_source") if isinstance(img, MetaTensor) else None
    if affine is None or source == "" or (source == "unknown" and img.ndim >= 4):
        return None
    return affine[:-1, :-1]


def _directions(img: Tensor, wanted: str) -> np.ndarray:
    found = _known_directions(img)
    if found is not None:
        return found
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
    return _spacing(_directions(img, "A spacing in mm"))


def known_spacing(img: Tensor) -> tuple[float, float] | None:
    """As :func:`in_plane_spacing`, or None where the spacing is not known."""
    found = _known_directions(img)
    return None if found is None else _spacing(found)


def _spacing(directions: np.ndarray) -> tuple[float, float]:
    rows, columns = np.linalg.norm(directions, axis=0)[:2]
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
