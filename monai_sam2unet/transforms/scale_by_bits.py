# SPDX-License-Identifier: Apache-2.0
"""Pictures whose largest possible value is known, scaled to [0, 1]."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.data import get_track_meta
from monai.transforms import MapTransform, Transform
from monai.utils import convert_to_tensor
from monai.utils.enums import TransformBackends
from torch import Tensor

from monai_sam2unet.errors import DataError

__all__ = ["ScaleByBits", "ScaleByBitsd"]


class ScaleByBits(Transform):
    """Divide a picture by the largest value its bits can hold.

    The number of bits is the metadata's ``bits_stored``, which the DICOM reader gives, else 8. The same value means
    the same brightness in every picture; where that does not hold (radiographs), :class:`PercentileScale` is the one.

    Example:
        >>> ScaleByBits()(torch.tensor([[[0.0, 127.5, 255.0]]])).tolist()
        [[[0.0, 0.5, 1.0]]]
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 (MONAI declares it so)

    def __call__(self, img: NdarrayOrTensor) -> Tensor:
        """Scale one picture.

        Args:
            img: (C, H, W), or (C, X, Y, frames).

        Returns:
            The same shape, float32, in [0, 1].

        Raises:
            DataError: When a value is negative, or larger than its bits can hold.
        """
        x: Tensor = convert_to_tensor(img, dtype=torch.float32, track_meta=get_track_meta())
        bits = int(getattr(x, "meta", {}).get("bits_stored") or 8)
        largest = float(2**bits - 1)
        low, high = (float(value) for value in torch.aminmax(x))
        if low < 0 or high > largest:
            raise DataError(
                f"Values from {low:g} to {high:g} are not those of {bits} bits. Photographs have 8; for other images "
                "take a window or percentiles."
            )
        return x / largest


class ScaleByBitsd(MapTransform):
    """Dictionary version of :class:`ScaleByBits`.

    Args:
        keys: keys of the pictures.
        allow_missing_keys: whether a missing key is passed over.
    """

    backend = ScaleByBits.backend

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.scale = ScaleByBits()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Scale the pictures under the keys; see :meth:`ScaleByBits.__call__`."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.scale(d[key])
        return d
