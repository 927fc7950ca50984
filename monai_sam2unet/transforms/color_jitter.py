# SPDX-License-Identifier: Apache-2.0
"""Random brightness, contrast, saturation and hue of colour images, without torchvision."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.transforms import RandomizableTransform
from monai.utils import convert_to_tensor
from monai.utils.enums import TransformBackends
from torch import Tensor

from monai_sam2unet.errors import DataError
from monai_sam2unet.transforms.one_draw import OneDrawd

__all__ = ["RandColorJitter", "RandColorJitterd"]

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in torchvision and Pillow
# Rec. 601 YIQ: a turn of the (I, Q) plane changes the hue and leaves the luma.
RGB_TO_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


def _hue_matrix(turn: float) -> Tensor:
    """RGB matrix (3, 3) that turns the hue by a fraction of the full circle."""
    angle = 2 * np.pi * turn
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    rotation = torch.tensor([[1, 0, 0], [0, cos, -sin], [0, sin, cos]], dtype=torch.float64)
    to_yiq = torch.tensor(RGB_TO_YIQ, dtype=torch.float64)
    return torch.linalg.solve(to_yiq, rotation @ to_yiq)


class RandColorJitter(RandomizableTransform):
    """Change brightness, contrast, saturation and hue by random amounts.

    Args:
        prob: probability, in [0, 1], that an image is changed.
        brightness: the image is multiplied by a factor from [1 - brightness, 1 + brightness].
        contrast: the distance to the image's mean luma is multiplied by a factor from [1 - contrast, 1 + contrast].
        saturation: the distance to each pixel's luma is multiplied by a factor from [1 - saturation, 1 + saturation].
        hue: the hue is turned by a fraction of the full circle from [-hue, hue], at most 0.5.
        max_value: largest possible pixel value: 1 for images in [0, 1], as presets make them, 255 for 8 bits. Results
            are clipped to [0, max_value].

    Raises:
        ValueError: When brightness, contrast or saturation is outside [0, 1], or hue outside [0, 0.5].
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 (MONAI declares it so)

    def __init__(
        self,
        prob: float = 0.5,
        brightness: float = 0.2,
        contrast: float = 0.2,
        saturation: float = 0.2,
        hue: float = 0.02,
        max_value: float = 1.0,
    ) -> None:
        RandomizableTransform.__init__(self, prob)
        for name, value, limit in (
            ("brightness", brightness, 1.0),
            ("contrast", contrast, 1.0),
            ("saturation", saturation, 1.0),
            ("hue", hue, 0.5),
        ):
            if not 0 <= value <= limit:
                raise ValueError(f"{name} must lie in [0, {limit}], got {value}.")
        self.strengths = (brightness, contrast, saturation, hue)
        self.max_value = max_value
        self._amounts = (0.0, 0.0, 0.0, 0.0)

    def randomize(self, data: Any = None) -> None:
        """Draw whether and by how much the next image changes."""
        super().randomize(data)
        brightness, contrast, saturation, hue = (float(self.R.uniform(-s, s)) for s in self.strengths)
        self._amounts = (brightness, contrast, saturation, hue)

    def __call__(self, img: NdarrayOrTensor, randomize: bool = True) -> NdarrayOrTensor:
        """Change an image.

        Args:
            img: colour image (3, H, W) in [0, max_value].
            randomize: draw anew, or repeat the last draw.

        Returns:
            The image (3, H, W), float32, clipped to [0, max_value]; unchanged where the draw says so.

        Raises:
            ValueError: When the image does not have three channels.
            DataError: When it has values above 1.5 times ``max_value``, which would all be clipped.
        """
        if img.shape[0] != 3:
            raise ValueError(f"Colours are changed in images (3, H, W), got shape {tuple(img.shape)}.")
        if randomize:
            self.randomize()
        if not self._do_transform:
            return img
        brightness, contrast, saturation, hue = self._amounts
        highest = float(img.max())
        if highest > 1.5 * self.max_value:
            raise DataError(
                f"RandColorJitter takes values in [0, {self.max_value:g}], got up to {highest:g}. Give max_value=255 "
                "for images of 8 bits, or scale them before."
            )
        x: Tensor = convert_to_tensor(img, dtype=torch.float32, track_meta=True)
        luma = torch.tensor(LUMA, dtype=x.dtype, device=x.device).view(3, 1, 1)
        x = x * (1 + brightness)
        mean = (x * luma).sum(0).mean()
        x = mean + (x - mean) * (1 + contrast)
        gray = (x * luma).sum(0, keepdim=True)
        x = gray + (x - gray) * (1 + saturation)
        x = torch.einsum("ij,jhw->ihw", _hue_matrix(hue).to(x), x)
        return x.clamp(0, self.max_value)


class RandColorJitterd(OneDrawd):
    """Dictionary version of :class:`RandColorJitter`; all keys change by the same amounts.

    Args:
        keys: keys of the images.
        prob: probability, in [0, 1], that the images of one dictionary are changed.
        brightness: as in :class:`RandColorJitter`.
        contrast: as in :class:`RandColorJitter`.
        saturation: as in :class:`RandColorJitter`.
        hue: as in :class:`RandColorJitter`.
        max_value: as in :class:`RandColorJitter`.
        allow_missing_keys: whether a missing key is passed over.
    """

    backend = RandColorJitter.backend

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.5,
        brightness: float = 0.2,
        contrast: float = 0.2,
        saturation: float = 0.2,
        hue: float = 0.02,
        max_value: float = 1.0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(
            keys, RandColorJitter(1.0, brightness, contrast, saturation, hue, max_value), prob, allow_missing_keys
        )
