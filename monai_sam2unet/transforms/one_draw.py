# SPDX-License-Identifier: Apache-2.0
"""What dictionary versions of random transforms of images share: one draw for all keys."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Protocol, TypeVar

import numpy as np
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.transforms import MapTransform, RandomizableTransform

__all__ = ["OneDrawd"]

Self = TypeVar("Self", bound="OneDrawd")


class _Drawn(Protocol):
    """A random transform of images (C, H, W) that can repeat its last draw."""

    def randomize(self) -> None: ...
    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> object: ...
    def __call__(self, img: NdarrayOrTensor, randomize: bool = True) -> NdarrayOrTensor: ...


class OneDrawd(RandomizableTransform, MapTransform):
    """Applies an array transform to the images under some keys, by one draw for all of them.

    Args:
        keys: keys of the images.
        transform: changes an image, always.
        prob: probability, in [0, 1], that the images of one dictionary are changed.
        allow_missing_keys: whether a missing key is passed over.
    """

    def __init__(
        self, keys: KeysCollection, transform: _Drawn, prob: float = 0.5, allow_missing_keys: bool = False
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.transform = transform

    def set_random_state(self: Self, seed: int | None = None, state: np.random.RandomState | None = None) -> Self:
        """Seed both the draw of whether and the draw of how."""
        super().set_random_state(seed, state)
        self.transform.set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Change the images under the keys; see the array version's call."""
        d = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return d
        self.transform.randomize()
        for key in self.key_iterator(d):
            d[key] = self.transform(d[key], randomize=False)
        return d
