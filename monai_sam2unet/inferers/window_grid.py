# SPDX-License-Identifier: Apache-2.0
"""Overlapping windows of a slice and how their predictions are blended, as MONAI's ``SlidingWindowInferer`` does."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.utils import fall_back_tuple
from torch import Tensor
from torch.nn import functional as F

from monai_sam2unet.errors import ConfigError

__all__ = ["WindowBlender", "WindowGrid"]


@dataclass(frozen=True)
class WindowGrid:
    """Where the windows of a slice lie.

    Args:
        size: height and width of the slice.
        roi: height and width of the windows.
        starts: first row and first column of each window, in the padded slice.
        padding: pixels put on the left, on the right, on the top and at the bottom of a slice smaller than a window.
    """

    size: tuple[int, int]
    roi: tuple[int, int]
    starts: tuple[tuple[int, int], ...]
    padding: tuple[int, int, int, int]

    @classmethod
    def of(
        cls, size: tuple[int, int], roi_size: Sequence[int] | None = None, overlap: tuple[float, float] = (0.25, 0.25)
    ) -> WindowGrid:
        """The windows that MONAI would take.

        Args:
            size: height and width of the slice.
            roi_size: height and width of a window; the slice's own where a value is not above 0. None: the slice
                is one window.
            overlap: share of a window's height and width that the next one covers too, in [0, 1).

        Example:
            >>> WindowGrid.of((10, 6), (6, 8), (0.5, 0.5)).starts
            ((0, 0), (3, 0), (4, 0))
        """
        if roi_size is None:
            return cls(size, size, ((0, 0),), (0, 0, 0, 0))
        rows, columns = (int(n) for n in fall_back_tuple(roi_size, size))
        top, left = (max(roi - n, 0) // 2 for roi, n in zip((rows, columns), size, strict=True))
        height, width = max(rows, size[0]), max(columns, size[1])
        steps = [max(int(roi * (1 - share)), 1) for roi, share in zip((rows, columns), overlap, strict=True)]
        found = dense_patch_slices((height, width), (rows, columns), steps)
        starts = tuple((int(r.start), int(c.start)) for r, c in found)
        return cls(size, (rows, columns), starts, (left, width - size[1] - left, top, height - size[0] - top))

    @property
    def padded_size(self) -> tuple[int, int]:
        """Height and width of the slice after padding."""
        left, right, top, bottom = self.padding
        return self.size[0] + top + bottom, self.size[1] + left + right

    def window(self, x: Tensor, number: int) -> Tensor:
        """A window (..., h, w) as a view of a padded slice (..., H, W)."""
        row, column = self.starts[number]
        return x[..., row : row + self.roi[0], column : column + self.roi[1]]

    def pad(self, x: Tensor, mode: str, value: float) -> Tensor:
        """Slices (N, C, H, W) made at least as large as a window.

        Raises:
            ConfigError: When a slice is too small to be continued by its own content.
        """
        if not any(self.padding):
            return x
        left, right, top, bottom = self.padding
        missing = (max(top, bottom) - self.size[0], max(left, right) - self.size[1])
        if (mode == "reflect" and max(missing) >= 0) or (mode == "circular" and max(missing) > 0):
            raise ConfigError(
                f"padding_mode {mode} cannot make windows of {self.roi} of slices of {self.size}: they are too small. "
                "Take replicate or constant, or a smaller roi_size."
            )
        return F.pad(x, self.padding, mode=mode, value=value if mode == "constant" else None)

    def crop(self, x: Tensor) -> Tensor:
        """What :meth:`pad` added is cut from (..., H, W) again."""
        left, _, top, _ = self.padding
        return x[..., top : top + self.size[0], left : left + self.size[1]]


class WindowBlender:
    """Adds up the windows of slices, weighted, and hands each slice out with its last window.

    Args:
        mode: ``"gaussian"`` (a window counts less towards its border) or ``"constant"``.
        sigma_scale: standard deviation of the Gaussian, as a share of the window's height and width.
    """

    def __init__(self, mode: str, sigma_scale: float) -> None:
        self.mode = mode
        self.sigma_scale = sigma_scale
        self._sums: dict[Hashable, Tensor] = {}
        self._maps: dict[tuple[WindowGrid, torch.device], tuple[Tensor, Tensor]] = {}

    def _weights(self, grid: WindowGrid, device: torch.device) -> tuple[Tensor, Tensor]:
        """Weights (h, w) of one window, and their sum (H, W) over all."""
        if (grid, device) not in self._maps:
            one = compute_importance_map(grid.roi, mode=self.mode, sigma_scale=self.sigma_scale, device=device)
            total = torch.zeros(grid.padded_size, device=device)
            for number in range(len(grid.starts)):
                grid.window(total, number).add_(one)
            self._maps[grid, device] = one, total
        return self._maps[grid, device]

    def add(self, key: Hashable, grid: WindowGrid, number: int, prediction: Tensor) -> Tensor | None:
        """Take in one window; those of a slice come in order.

        Args:
            key: the slice.
            grid: its windows.
            number: which of them this is.
            prediction: (..., h, w).

        Returns:
            The blended slice (..., H, W) after its last window, else None.
        """
        one, total = self._weights(grid, prediction.device)
        if key not in self._sums:
            self._sums[key] = prediction.new_zeros((*prediction.shape[:-2], *grid.padded_size))
        grid.window(self._sums[key], number).addcmul_(prediction, one)
        if number + 1 < len(grid.starts):
            return None
        return grid.crop(self._sums.pop(key).div_(total))
