# SPDX-License-Identifier: Apache-2.0
"""Test-time augmentation: one batch predicted flipped and resized, each prediction brought back to the batch's grid."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.transforms.fit_geometry import resize

__all__ = ["FLIPS", "FlipsAndScales"]

#: Flips by name: what is put in reverse order, and the dimensions of (N, C, H, W) that this means.
FLIPS: dict[str, tuple[int, ...]] = {"rows": (-2,), "columns": (-1,), "both": (-2, -1)}


class FlipsAndScales:
    """Predicts a batch at every scale, as it is and under every flip.

    Args:
        flips: ``"rows"`` (upside down), ``"columns"`` (left to right) and ``"both"``, in addition to the unflipped one.
        scales: factors on height and width. Sizes are rounded to a multiple of ``multiple``; factor 1 changes nothing.
        multiple: pixels.

    Raises:
        ConfigError: When a flip is not known, a factor is not above 0, one is given twice, or there is no factor.
    """

    def __init__(self, flips: Sequence[str] = (), scales: Sequence[float] = (1.0,), multiple: int = 32) -> None:
        if not isinstance(flips, (list, tuple)) or any(flip not in FLIPS for flip in flips):
            raise ConfigError(f"flips must be a list of {', '.join(FLIPS)}, or empty; got {flips!r}.")
        numbers = isinstance(scales, (list, tuple)) and all(isinstance(s, (int, float)) for s in scales)
        if not numbers or not scales or not all(0 < s < float("inf") for s in scales):
            raise ConfigError(f"scales must be a list of factors above 0, such as [0.75, 1, 1.25]; got {scales!r}.")
        if len({*flips}) < len(flips) or len({*scales}) < len(scales):
            raise ConfigError(f"Each flip and scale can be given once; got flips {flips!r} and scales {scales!r}.")
        self.flips = ((), *(FLIPS[flip] for flip in flips))
        self.scales = tuple(float(s) for s in scales)
        self.multiple = multiple

    def __len__(self) -> int:
        """Number of predictions."""
        return len(self.flips) * len(self.scales)

    def _scaled_size(self, size: Sequence[int], scale: float) -> tuple[int, int]:
        height, width = (
            n if scale == 1 else max(self.multiple, round(n * scale / self.multiple) * self.multiple) for n in size
        )
        return height, width

    def predictions(self, x: Tensor, network: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
        """Predict a batch.

        Args:
            x: (N, C, H, W).
            network: takes such a batch and gives (N, K, H, W).

        Yields:
            Predictions (N, K, H, W), scale by scale, on the grid of ``x``; resizing is bilinear, with anti-aliasing
            where it shrinks.
        """
        size = (x.shape[-2], x.shape[-1])
        for scale in self.scales:
            scaled = resize(x, self._scaled_size(size, scale))
            for dims in self.flips:
                # flip copies, with no dimensions too: a network that writes on its input must not reach the next pass.
                given = scaled if len(self) == 1 else torch.flip(scaled, dims)
                y = network(given)
                yield resize(torch.flip(y, dims) if dims else y, size)
