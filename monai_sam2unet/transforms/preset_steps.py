# SPDX-License-Identifier: Apache-2.0
"""Steps that presets are made of and that nothing else needs."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import Compose, MapTransform
from torch import Tensor

from monai_sam2unet.errors import ConfigError, DataError, UserError
from monai_sam2unet.transforms.class_masks import ACTIVATIONS
from monai_sam2unet.transforms.hiera_input import HieraInput
from monai_sam2unet.transforms.tensors import plain

__all__ = ["BackToSourced", "PresetCompose", "ToProbabilitiesd"]


class PresetCompose(Compose):
    """MONAI's ``Compose``, whose ``RuntimeError`` gives way to the error that says what is wrong with the data."""

    def __call__(self, input_: Any, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Apply the transforms.

        Raises:
            UserError: As a transform raises it.
        """
        try:
            return super().__call__(input_, *args, **kwargs)
        except RuntimeError as error:
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, UserError):
                cause = cause.__cause__
            if cause is None:
                raise
            raise cause from None


class BackToSourced(MapTransform):
    """Bring predictions of pictures to their pictures' grids.

    MONAI's ``Invertd`` only warns when there is nothing to invert, and leaves the network's size.

    Args:
        keys: keys of the predictions (K, h, w).
        image_key: key of the network's input, which carries the trace of ``to_input``.
        to_input: what made that input.
    """

    def __init__(self, keys: KeysCollection, image_key: Hashable, to_input: HieraInput) -> None:
        super().__init__(keys)
        self.image_key = image_key
        self.to_input = to_input

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Bring the predictions under the keys to (K, H, W).

        Raises:
            DataError: When a prediction is no tensor, or the image does not say where it comes from.
        """
        d = dict(data)
        image = d.get(self.image_key)
        if not isinstance(image, MetaTensor) or not image.applied_operations:
            raise DataError(
                f"{self.image_key!r} does not say how it was made of its picture, so predictions cannot be brought "
                "back: it must be the MetaTensor that preset.inference() or preset.evaluation() gave."
            )
        for key in self.key_iterator(d):
            if not isinstance(d[key], Tensor):
                raise DataError(f"{key!r} must be a prediction (K, h, w), got {type(d[key]).__name__}.")
            d[key] = self.to_input.inverse(MetaTensor(plain(d[key])).copy_meta_from(image))
        return d


class ToProbabilitiesd(MapTransform):
    """Make probabilities of predictions, float32; what an inferer has activated already is not activated again.

    Args:
        keys: keys of the predictions (K, ...).
        activation: ``"sigmoid"``, ``"softmax"`` over the channels, or None where they are probabilities already.

    Raises:
        ConfigError: When the activation is another.
    """

    def __init__(self, keys: KeysCollection, activation: str | None = "sigmoid") -> None:
        super().__init__(keys)
        if activation is not None and activation not in ACTIVATIONS:
            raise ConfigError(f"activation must be {', '.join(ACTIVATIONS)} or None, got {activation!r}.")
        self.activation = activation

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Make the probabilities under the keys.

        Raises:
            DataError: When a prediction is no tensor.
            ConfigError: When it is marked as another activation's.
        """
        d = dict(data)
        for key in self.key_iterator(d):
            x = d[key]
            if not isinstance(x, Tensor):
                raise DataError(f"{key!r} must be a prediction (K, ...), got {type(x).__name__}.")
            done = x.meta.get("activation") if isinstance(x, MetaTensor) else None
            if done is not None and done not in (self.activation, "identity"):
                raise ConfigError(f"{key!r} is a {done} already (meta['activation']), not {self.activation}.")
            values = plain(x).float()
            if done is None and self.activation == "sigmoid":
                values = values.sigmoid()
            elif done is None and self.activation == "softmax":
                values = torch.softmax(values, 0)
            d[key] = MetaTensor(values).copy_meta_from(x) if isinstance(x, MetaTensor) else values
        return d
