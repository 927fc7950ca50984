# SPDX-License-Identifier: Apache-2.0
"""How a slice's grid lies in the network's: sizes worked out once, then kernels on batches (N, C, H, W) both ways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from monai_sam2unet.errors import ConfigError, DataError

__all__ = ["MODES", "FitPlan", "FitRule", "pair", "resize"]

#: Interpolations; ``"nearest"`` takes the pixel whose square holds the new pixel's centre (PyTorch: nearest-exact).
MODES = ("bilinear", "nearest")


def _nearest(x: Tensor, dim: int, size: int) -> Tensor:
    # Whole numbers: floor((i + 1/2) * old / new) in floating point can land on the wrong side of a tie.
    index = (2 * torch.arange(size, device=x.device) + 1) * x.shape[dim] // (2 * size)
    return x.index_select(dim, index)


def resize(x: Tensor, size: Sequence[int], mode: str = "bilinear", anti_aliasing: bool = True) -> Tensor:
    """Resize pictures; corners of the outer pixels stay where they are (``align_corners=False``).

    Args:
        x: (N, C, H, W).
        size: new height and width.
        mode: ``"bilinear"`` or ``"nearest"``.
        anti_aliasing: whether bilinear averages over all the pixels that a new, larger one covers.

    Returns:
        (N, C, h, w). Nearest keeps the dtype; bilinear keeps that of floating point tensors and gives float32 else.
        The tensor itself where the size does not change.
    """
    height, width = size
    if mode == "nearest":
        if height != x.shape[-2]:
            x = _nearest(x, -2, height)
        return _nearest(x, -1, width) if width != x.shape[-1] else x
    x = x if x.is_floating_point() else x.float()
    if (height, width) == tuple(x.shape[-2:]):
        return x
    shrinks = height < x.shape[-2] or width < x.shape[-1]
    exact = x if x.dtype == torch.float64 else x.float()
    resized = F.interpolate(exact, (height, width), mode="bilinear", antialias=anti_aliasing and shrinks)
    return resized.to(x.dtype)


@dataclass(frozen=True)
class FitPlan:
    """One source grid inside one network grid: the source is resized, then padded on all sides to ``size``.

    Args:
        source: height and width of the source.
        resized: height and width that the source takes up in the network's grid.
        size: height and width of the network's grid.
    """

    source: tuple[int, int]
    resized: tuple[int, int]
    size: tuple[int, int]

    @property
    def start(self) -> tuple[int, int]:
        """First row and column that the source takes up; an odd pixel of padding goes to the end."""
        return (self.size[0] - self.resized[0]) // 2, (self.size[1] - self.resized[1]) // 2

    def to_source(self) -> np.ndarray:
        """Homogeneous matrix (3, 3) from (row, column) of the network's grid to those of the source."""
        matrix = np.eye(3)
        for axis in range(2):
            step = self.source[axis] / self.resized[axis]
            matrix[axis, axis] = step
            matrix[axis, 2] = (0.5 - self.start[axis]) * step - 0.5
        return matrix

    def forward(self, x: Tensor, mode: str = "bilinear", anti_aliasing: bool = True) -> Tensor:
        """Bring sources (N, C, H, W) to the network's grid (N, C, h, w); what is padded is 0. See :func:`resize`.

        Raises:
            DataError: When the tensor does not have the source's height and width.
        """
        self._check(x, self.source, "source")
        x = resize(x, self.resized, mode, anti_aliasing)
        if self.resized == self.size:
            return x
        top, left = self.start
        bottom, right = self.size[0] - self.resized[0] - top, self.size[1] - self.resized[1] - left
        return F.pad(x, [left, right, top, bottom])

    def inverse(self, y: Tensor, mode: str = "bilinear") -> Tensor:
        """Bring predictions (N, K, h, w) to the source's grid (N, K, H, W). See :func:`resize`.

        Bilinear reads off the value at each source pixel's centre. It does not average where the source is coarser:
        that blurs thin structures of slices that were enlarged (the walls of a heart lose up to 1 % of their Dice).

        Raises:
            DataError: When the tensor does not have the network grid's height and width.
        """
        self._check(y, self.size, "network's")
        top, left = self.start
        y = y[..., top : top + self.resized[0], left : left + self.resized[1]]
        return resize(y, self.source, mode, anti_aliasing=False)

    def _check(self, x: Tensor, size: tuple[int, int], name: str) -> None:
        if tuple(x.shape[-2:]) != size:
            raise DataError(
                f"Expected the {name} height and width {size[0]}x{size[1]}, got a tensor {tuple(x.shape)}. "
                "Predictions go back from exactly the grid that the network was given."
            )


def pair(name: str, value: Any) -> tuple[Any, Any]:
    """One number for rows and columns alike, or two.

    Args:
        name: what the argument is called, for the error.
        value: a number, or a sequence of two.

    Raises:
        ConfigError: When it is something else.

    Example:
        >>> pair("size", 3), pair("size", [3, 4.5])
        ((3, 3), (3, 4.5))
    """
    given = tuple(value) if isinstance(value, (Sequence, np.ndarray)) and not isinstance(value, str) else (value, value)
    if len(given) != 2 or not all(isinstance(v, Real) and not isinstance(v, bool) for v in given):
        raise ConfigError(f"{name} must be one number, or one for rows and one for columns; got {value!r}.")
    return given


def _positive_pair(name: str, value: Any, whole: bool) -> tuple[float, float]:
    rows, columns = pair(name, value)
    if not all(np.isfinite(v) and v > 0 and (not whole or v == int(v)) for v in (rows, columns)):
        kind = "whole numbers" if whole else "numbers of mm"
        raise ConfigError(f"{name} must be one or two {kind} above 0 (rows, columns), got {value!r}.")
    return (int(rows), int(columns)) if whole else (float(rows), float(columns))


class FitRule:
    """Works out the :class:`FitPlan` of any source. The arguments are those of :class:`FitToSize`.

    Args:
        spatial_size: height and width of the network's grid; None for as large as needed, in multiples of ``multiple``.
        keep_aspect: whether rows and columns are scaled by one factor: of mm where their spacing is known, else of
            pixels.
        pixel_spacing: mm that rows and columns are to have.
        enlarge_or_shrink: whether the number of pixels may change; if not, sources are padded only.
        multiple: what divides height and width where ``spatial_size`` is None.

    Raises:
        ConfigError: When a value is not allowed, or ``pixel_spacing`` is given and pixels must not change.
    """

    def __init__(
        self,
        spatial_size: int | Sequence[int] | None = (352, 352),
        keep_aspect: bool = False,
        pixel_spacing: float | Sequence[float] | None = None,
        enlarge_or_shrink: bool = True,
        multiple: int = 32,
    ) -> None:
        size = None if spatial_size is None else _positive_pair("spatial_size", spatial_size, whole=True)
        self.spatial_size = None if size is None else (int(size[0]), int(size[1]))
        self.keep_aspect = keep_aspect
        self.pixel_spacing = (
            None if pixel_spacing is None else _positive_pair("pixel_spacing", pixel_spacing, whole=False)
        )
        self.pads_only = not enlarge_or_shrink or (self.spatial_size is None and self.pixel_spacing is None)
        if not enlarge_or_shrink and self.pixel_spacing is not None:
            raise ConfigError("pixel_spacing resamples, enlarge_or_shrink=False forbids it: leave one of them out.")
        if not isinstance(multiple, int) or multiple < 1:
            raise ConfigError(f"multiple must be a whole number of at least 1, got {multiple!r}.")
        self.multiple = multiple

    def plan(self, height: int, width: int, spacing: Sequence[float] | None = None) -> FitPlan:
        """Where a source lies in the network's grid.

        Args:
            height: rows of the source.
            width: columns of the source.
            spacing: mm between its rows and between its columns, or None where that is not known; ``pixel_spacing``
                needs it, ``keep_aspect`` takes square pixels without it, and nothing else asks for it.

        Raises:
            DataError: When the source is empty; when ``pixel_spacing`` is asked for and ``spacing`` is not known, or
                not above 0; when the source, padded only or at the spacing asked for, is larger than ``spatial_size``.
        """
        source = (height, width)
        if min(source) < 1:
            raise DataError(f"A slice must have at least one row and one column, got {height}x{width}.")
        resized = self._resized(source, spacing)
        size = self.spatial_size
        if size is None:
            rows, columns = (-(-n // self.multiple) * self.multiple for n in resized)
            size = (rows, columns)
        if resized[0] > size[0] or resized[1] > size[1]:
            at = "" if self.pixel_spacing is None else f" at {self.pixel_spacing[0]:g} x {self.pixel_spacing[1]:g} mm"
            raise DataError(
                f"A slice of {height}x{width} pixels takes {resized[0]}x{resized[1]}{at}, more than spatial_size "
                f"{size[0]}x{size[1]}. Give a larger spatial_size, or None for one that grows with the slice"
                + (", or a larger pixel_spacing." if self.pixel_spacing else ", or let it be resized.")
            )
        return FitPlan(source, resized, size)

    def _resized(self, source: tuple[int, int], spacing: Sequence[float] | None) -> tuple[int, int]:
        used = self.keep_aspect or self.pixel_spacing is not None
        if used and spacing is not None and not all(np.isfinite(mm) and mm > 0 for mm in spacing):
            raise DataError(f"The spacing of rows and columns must be above 0 mm, got {tuple(spacing)}.")
        if self.pixel_spacing is not None:
            if spacing is None:
                raise DataError("pixel_spacing needs the spacing of the slices in mm, and it was not given.")
            rows, columns = (
                max(1, round(n * have / want))
                for n, have, want in zip(source, spacing, self.pixel_spacing, strict=True)
            )
            return rows, columns
        if self.pads_only or self.spatial_size is None:
            return source
        if not self.keep_aspect:
            return self.spatial_size
        # Rounded, so that pixels square but for a rounding error count as square.
        ratio = 1.0 if spacing is None else round(spacing[0] / spacing[1], 6)
        extent = (source[0] * ratio, source[1])
        factor = min(self.spatial_size[0] / extent[0], self.spatial_size[1] / extent[1])
        rows, columns = (min(max(1, round(n * factor)), m) for n, m in zip(extent, self.spatial_size, strict=True))
        return rows, columns
