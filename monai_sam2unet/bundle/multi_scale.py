# SPDX-License-Identifier: Apache-2.0
"""Multi-scale training: each batch at a size drawn at random, as PraNet trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.engines import PrepareBatch, default_prepare_batch
from torch import Tensor
from torch.nn import functional as F

from monai_sam2unet.errors import ConfigError

__all__ = ["PrepareBatchMultiScale"]


class PrepareBatchMultiScale(PrepareBatch):
    """Moves a batch to the device and resizes it by a factor drawn from ``scales``.

    Args:
        scales: the factors, each above 0; ``[1]`` leaves every batch as it is. PraNet uses ``[0.75, 1, 1.25]``.
        multiple: heights and widths are rounded to a multiple of so many pixels.

    Raises:
        ConfigError: When there is no factor, or one is not above 0.
    """

    def __init__(self, scales: Sequence[float] = (1.0,), multiple: int = 32) -> None:
        if not isinstance(scales, (list, tuple)) or not scales or any(s <= 0 for s in scales):
            raise ConfigError(f"multi_scale must be a list of factors above 0, such as [0.75, 1, 1.25]; got {scales}.")
        self.scales = tuple(scales)
        self.multiple = multiple

    def _scaled(self, length: int, scale: float) -> int:
        return max(self.multiple, round(length * scale / self.multiple) * self.multiple)

    def __call__(
        self,
        batchdata: dict[str, Tensor],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor]:
        """Prepare a batch.

        Args:
            batchdata: ``image`` (B, C, H, W) and ``label`` (B, 1, H, W).
            device: where to.
            non_blocking: whether the copy may overlap with computing.
            kwargs: given on to ``Tensor.to``.

        Returns:
            Image and label, plain tensors, resized: bilinear for the image, nearest for the label.
        """
        prepared = default_prepare_batch(batchdata, device, non_blocking, **kwargs)[:2]
        image, label = (x.as_tensor() if isinstance(x, MetaTensor) else torch.as_tensor(x) for x in prepared)
        scale = self.scales[int(torch.randint(len(self.scales), ()))]
        if scale == 1:
            return image, label
        size = [self._scaled(length, scale) for length in image.shape[2:]]
        image = F.interpolate(image, size=size, mode="bilinear", antialias=scale < 1)
        return image, F.interpolate(label, size=size, mode="nearest-exact")
