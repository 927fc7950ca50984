# SPDX-License-Identifier: Apache-2.0
"""Gray images to the three channels of an encoder trained on colour."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.data import get_track_meta
from monai.transforms import MapTransform, Transform
from monai.utils import convert_to_tensor
from monai.utils.enums import TransformBackends
from torch import Tensor

from monai_sam2unet.errors import DataError

__all__ = ["ThreeChannels", "ThreeChannelsd"]


class ThreeChannels(Transform):
    """Repeat the one channel of a gray image three times; leave three as they are.

    Example:
        >>> import torch
        >>> tuple(ThreeChannels()(torch.rand(1, 8, 8)).shape)
        (3, 8, 8)
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 (MONAI declares it so)

    def __call__(self, img: NdarrayOrTensor) -> Tensor:
        """Make three channels.

        Args:
            img: (1, ...) or (3, ...).

        Returns:
            (3, ...), a copy if it was gray.

        Raises:
            DataError: When there are neither one nor three channels; what an alpha channel means is not guessed.
        """
        x: Tensor = convert_to_tensor(img, track_meta=get_track_meta())
        if x.shape[0] not in (1, 3):
            raise DataError(
                f"Three channels are made of one or kept, got shape {tuple(x.shape)}. Drop an alpha channel first."
            )
        return x if x.shape[0] == 3 else x.repeat(3, *[1] * (x.ndim - 1))


class ThreeChannelsd(MapTransform):
    """Dictionary version of :class:`ThreeChannels`.

    Args:
        keys: keys of the images.
        allow_missing_keys: whether a missing key is passed over.
    """

    backend = ThreeChannels.backend

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = ThreeChannels()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Make three channels under the keys; see :meth:`ThreeChannels.__call__`."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.transform(d[key])
        return d
