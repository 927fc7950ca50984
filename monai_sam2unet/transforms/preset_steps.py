# SPDX-License-Identifier: Apache-2.0
"""Steps that presets are made of and that nothing else needs."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import Compose, MapTransform
from torch import Tensor

from monai_sam2unet.errors import DataError, UserError
from monai_sam2unet.transforms.hiera_input import HieraInput
from monai_sam2unet.transforms.tensors import plain

__all__ = ["BackToSourced", "PresetCompose"]


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
