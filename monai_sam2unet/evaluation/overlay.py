# SPDX-License-Identifier: Apache-2.0
"""Draws masks over images, for people to look at."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["draw_overlay"]

GREEN, YELLOW = (0, 200, 80), (255, 220, 0)


def _outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of a mask (H, W) within two pixels of its outside."""
    inner = mask
    for _ in range(2):
        framed = np.pad(inner, 1, mode="edge")
        inner = inner & framed[:-2, 1:-1] & framed[2:, 1:-1] & framed[1:-1, :-2] & framed[1:-1, 2:]
    return mask & ~inner


def draw_overlay(
    image: NDArray[np.uint8], prediction: NDArray, truth: NDArray | None = None, alpha: float = 0.35
) -> NDArray[np.uint8]:
    """Draw a prediction in green over an image, and the truth's outline in yellow.

    Args:
        image: RGB (H, W, 3), 8 bit.
        prediction: mask (H, W); above 0 is foreground.
        truth: mask (H, W), if known.
        alpha: opacity of the prediction's area, in [0, 1]; its outline is opaque.

    Returns:
        RGB (H, W, 3), 8 bit.

    Raises:
        ValueError: When a mask is not as large as the image.
    """
    for mask in (prediction, truth):
        if mask is not None and mask.shape != image.shape[:2]:
            raise ValueError(f"A mask of {mask.shape} cannot be drawn over an image of {image.shape[:2]} pixels.")
    out = image.astype(np.float32)
    area = prediction > 0
    out[area] = (1 - alpha) * out[area] + alpha * np.asarray(GREEN, np.float32)
    out[_outline(area)] = GREEN
    if truth is not None:
        out[_outline(truth > 0)] = YELLOW
    return out.round().astype(np.uint8)
