# SPDX-License-Identifier: Apache-2.0
"""Turns a volume's axes so that they run as another's, where both lie on one grid."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import nibabel as nib
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform, Orientation
from monai.utils.enums import TraceKeys
from torch import Tensor

from monai_sam2unet.errors import DataError
from monai_sam2unet.transforms.same_grid import check_same_grid

__all__ = ["MatchOrientation", "MatchOrientationd"]

#: The names of the axes' ends in RAS.
LABELS = (("L", "R"), ("P", "A"), ("I", "S"))


def _turn(img: MetaTensor, like: Tensor) -> MetaTensor:
    """The volume with its axes in the order that the affine ``like`` has."""
    codes = "".join(nib.aff2axcodes(like.cpu().numpy()))
    turn = Orientation(axcodes=codes, labels=LABELS)
    # The trace is this module's own, since each volume needs another Orientation.
    with turn.trace_transform(False):
        turned = turn(img)
    if not isinstance(turned, MetaTensor):
        raise DataError("Orientations are matched while MONAI tracks metadata; see monai.data.set_track_meta.")
    return turned


class MatchOrientation(InvertibleTransform):
    """Permute and flip a volume's axes to another's order, as a label from NIfTI (RAS) beside its DICOM series needs.

    Nothing is resampled: the two must hold the same voxels. MONAI's ``ResampleToMatch`` is for grids that differ.
    """

    def __call__(self, img: MetaTensor, dst: MetaTensor) -> MetaTensor:  # type: ignore[override]
        """Match one volume.

        Args:
            img: (C, X, Y, Z), to be turned.
            dst: (C, X, Y, Z), to be matched.

        Returns:
            ``img`` with ``dst``'s spatial shape, axes and affine, and a trace for the inverse.

        Raises:
            DataError: When a volume has no affine, or the two do not lie on one grid (to a twentieth of a voxel).
        """
        for volume in (img, dst):
            if not isinstance(volume, MetaTensor) or volume.affine.shape != (4, 4):
                raise DataError("Orientations are matched between volumes with an affine (4, 4).")
        turned = _turn(img, dst.affine)
        check_same_grid({f"dst {_name(dst)}".strip(): dst, f"img {_name(img)}".strip(): turned})
        turned.affine = dst.affine
        return self.push_transform(turned, extra_info={"affine": img.affine.clone()})

    def inverse(self, data: MetaTensor) -> MetaTensor:
        """Turn a volume back to its own order.

        Args:
            data: MetaTensor (K, X, Y, Z) with the trace of :meth:`__call__`.

        Returns:
            (K, X, Y, Z) with the affine it had.
        """
        copy: MetaTensor = MetaTensor(data.as_tensor()).copy_meta_from(data)
        affine = self.pop_transform(copy)[TraceKeys.EXTRA_INFO]["affine"]
        turned = _turn(copy, affine)
        turned.affine = affine
        return turned


def _name(volume: MetaTensor) -> str:
    return str(volume.meta.get("filename_or_obj", ""))


class MatchOrientationd(MapTransform, InvertibleTransform):
    """Dictionary version of :class:`MatchOrientation`.

    Args:
        keys: keys of the volumes to be turned.
        key_dst: key of the volume to be matched.
        allow_missing_keys: whether a missing key is passed over.
    """

    def __init__(self, keys: KeysCollection, key_dst: str, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.key_dst = key_dst
        self.match = MatchOrientation()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Match the volumes under the keys; see :meth:`MatchOrientation.__call__`."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.match(d[key], d[self.key_dst])
        return d

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Turn the volumes under the keys back to their own order."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.match.inverse(d[key])
        return d
