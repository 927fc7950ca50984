# SPDX-License-Identifier: Apache-2.0
"""Random JPEG compression: the blocks and ringing of recorded and forwarded video frames."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.transforms import RandomizableTransform
from monai.utils import convert_to_dst_type
from monai.utils.enums import TransformBackends
from PIL import Image

from monai_sam2unet.errors import DataError
from monai_sam2unet.transforms.one_draw import OneDrawd

__all__ = ["RandJPEGCompression", "RandJPEGCompressiond"]


class RandJPEGCompression(RandomizableTransform):
    """Write an image as JPEG of a random quality, and read it back.

    Args:
        prob: probability, in [0, 1], that an image is changed.
        quality: lowest and highest quality, whole numbers in [1, 95] on the scale of the Independent JPEG Group.
            Colours are subsampled 4:2:0, as cameras and video do.
        max_value: largest possible pixel value: 1 for images in [0, 1], as presets make them, 255 for 8 bits.

    Raises:
        ValueError: When the qualities are outside [1, 95] or in the wrong order.
    """

    backend = [TransformBackends.NUMPY]  # noqa: RUF012 (MONAI declares it so)

    def __init__(self, prob: float = 0.5, quality: Sequence[int] = (30, 90), max_value: float = 1.0) -> None:
        RandomizableTransform.__init__(self, prob)
        lowest, highest = (int(q) for q in quality)
        if not 1 <= lowest <= highest <= 95:
            raise ValueError(f"quality must be two whole numbers in [1, 95], the lower one first, got {quality}.")
        self.lowest, self.highest = lowest, highest
        self.max_value = max_value
        self._quality = highest

    def randomize(self, data: Any = None) -> None:
        """Draw whether and with which quality the next image is compressed."""
        super().randomize(data)
        self._quality = int(self.R.randint(self.lowest, self.highest + 1))

    def __call__(self, img: NdarrayOrTensor, randomize: bool = True) -> NdarrayOrTensor:
        """Compress an image.

        Args:
            img: colour (3, H, W) or gray (1, H, W), in [0, max_value].
            randomize: draw anew, or repeat the last draw.

        Returns:
            The image as read back, of the same shape and type, rounded to 256 levels; unchanged where the draw says so.

        Raises:
            ValueError: When the image has neither one nor three channels.
            DataError: When it has values outside [0, max_value], which JPEG cannot hold.
        """
        if img.ndim != 3 or img.shape[0] not in (1, 3):
            raise ValueError(f"JPEG holds images (3, H, W) or (1, H, W), got shape {tuple(img.shape)}.")
        if randomize:
            self.randomize()
        if not self._do_transform:
            return img
        values = np.asarray(img.detach().cpu() if isinstance(img, torch.Tensor) else img, np.float32) / self.max_value
        # Interpolation leaves some values a rounding error outside.
        if not (values.min() >= -1e-3 and values.max() <= 1 + 1e-3):
            lowest, highest = (self.max_value * float(value) for value in (values.min(), values.max()))
            raise DataError(
                f"RandJPEGCompression takes values in [0, {self.max_value:g}], got {lowest:g} to {highest:g}. Give "
                "max_value=255 for images of 8 bits, or scale them before."
            )
        pixels = np.moveaxis(np.rint(values.clip(0, 1) * 255).astype(np.uint8), 0, -1)
        file = io.BytesIO()
        Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, "JPEG", quality=self._quality)
        read = np.asarray(Image.open(file), np.float32).reshape(pixels.shape) * (self.max_value / 255)
        changed: NdarrayOrTensor = convert_to_dst_type(np.moveaxis(read, -1, 0), img)[0]
        return changed


class RandJPEGCompressiond(OneDrawd):
    """Dictionary version of :class:`RandJPEGCompression`; all keys get the same quality.

    Args:
        keys: keys of the images.
        prob: probability, in [0, 1], that the images of one dictionary are changed.
        quality: as in :class:`RandJPEGCompression`.
        max_value: as in :class:`RandJPEGCompression`.
        allow_missing_keys: whether a missing key is passed over.
    """

    backend = RandJPEGCompression.backend

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.5,
        quality: Sequence[int] = (30, 90),
        max_value: float = 1.0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, RandJPEGCompression(1.0, quality, max_value), prob, allow_missing_keys)
