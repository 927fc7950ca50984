# SPDX-License-Identifier: Apache-2.0
"""Checks prediction maps and truths before they are compared, and makes 8-bit maps as published code saves them."""

from __future__ import annotations

import torch
from torch import Tensor

from monai_sam2unet.errors import DataError

__all__ = ["check_maps", "to_eight_bit"]

# Truth of 8 bits is foreground above 128 (PySODMetrics): halfway to the next level, where rounding cannot matter.
FOREGROUND_ABOVE = 128.5 / 255


def _check_range(values: Tensor, name: str, hint: str) -> None:
    if not values.is_floating_point() and values.dtype != torch.bool:
        values = values.to(torch.int64)
    if values.dtype == torch.bool or values.numel() == 0:
        return
    low, high = values.aminmax()
    # Written so that NaN is refused, too.
    if not (low >= 0 and high <= 1):
        raise DataError(f"{name} must lie in [0, 1], got {low.item():g} to {high.item():g}. {hint}")


def check_maps(y_pred: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Check a batch of maps and truths, and lay out every channel as a map of its own.

    Args:
        y_pred: maps (B, C, H, W): ``uint8`` levels 0 to 255, ``bool``, or floating point in [0, 1].
        y: truths of the same shape in [0, 1], any type. A soft truth is foreground where it is above one half, that of
            8 bits divided by 255 where the level is above 128.

    Returns:
        The maps (B * C, H, W), ``uint8`` or floating point, and the truths (B * C, H, W), ``bool``.

    Raises:
        DataError: When the shapes differ, have not four dimensions or no element; maps are of another type; or values
            lie outside the range, or are not numbers.
    """
    if y_pred.shape != y.shape or y_pred.ndim != 4:
        raise DataError(
            f"Maps and truths must have one shape (B, C, H, W), got {tuple(y_pred.shape)} and {tuple(y.shape)}."
        )
    if y_pred.numel() == 0:
        raise DataError(f"There is no map with at least one pixel in the shape {tuple(y_pred.shape)}.")
    # MetaTensors would track every step in Python.
    y_pred, y = (x.as_subclass(Tensor).detach() for x in (y_pred, y))
    if y_pred.dtype == torch.bool:
        y_pred = y_pred.to(torch.uint8) * 255
    if y_pred.dtype != torch.uint8:
        if not y_pred.is_floating_point():
            raise DataError(f"Maps must be uint8, bool or floating point, got {y_pred.dtype}.")
        _check_range(y_pred, "Maps", "Apply the sigmoid or softmax to logits first.")
    _check_range(y, "The truth", "Divide 8-bit masks by 255; take classes apart by one-hot encoding.")
    truth = y if y.dtype == torch.bool else y > FOREGROUND_ABOVE
    return y_pred.flatten(0, 1), truth.flatten(0, 1)


def to_eight_bit(maps: Tensor) -> Tensor:
    """Scale each map by its lowest and highest value and store it in 8 bits, as SAM2-UNet's released test script does.

    A map whose largest value is 0.001 becomes one that reaches 255, and a constant map becomes 0: this is how published
    numbers were made, and why they say nothing about probabilities.

    Args:
        maps: (B, C, H, W), floating point.

    Returns:
        ``uint8`` levels, the same shape, rounded down.

    Raises:
        DataError: When the maps are not floating point, have not four dimensions, or hold infinite values or NaN.

    Example:
        >>> to_eight_bit(torch.tensor([0.1, 0.15, 0.2]).reshape(1, 1, 1, 3)).tolist()
        [[[[0, 127, 254]]]]

    See `the released code <https://github.com/WZH0120/SAM2-UNet>`_, ``test.py``.
    """
    if not maps.is_floating_point() or maps.ndim != 4:
        raise DataError(f"Expected floating-point maps (B, C, H, W), got {tuple(maps.shape)} of {maps.dtype}.")
    maps = maps.as_subclass(Tensor).detach().float()
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    if not bool(torch.isfinite(high - low).all()):
        raise DataError("Maps to be stored in 8 bits hold infinite values or NaN.")
    return ((maps - low) / (high - low + 1e-8) * 255).to(torch.uint8)
