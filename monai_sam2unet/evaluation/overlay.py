# SPDX-License-Identifier: Apache-2.0
"""Draws masks over images, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["CLASS_COLOURS", "GREEN", "draw_overlay"]

GREEN, YELLOW = (0, 200, 80), (255, 220, 0)

#: Of several classes, by turns: those of Okabe and Ito, which colour-blind people can tell apart.
CLASS_COLOURS = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167),
)  # fmt: skip


def _outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of a mask (H, W) within two pixels of its outside."""
    inner = mask
    for _ in range(2):
        framed = np.pad(inner, 1, mode="edge")
        inner = inner & framed[:-2, 1:-1] & framed[2:, 1:-1] & framed[1:-1, :-2] & framed[1:-1, 2:]
    return mask & ~inner


def draw_overlay(
    image: NDArray[np.uint8],
    prediction: NDArray,
    truth: NDArray | None = None,
    alpha: float = 0.35,
    colours: Sequence[tuple[int, int, int]] = (GREEN,),
) -> NDArray[np.uint8]:
    """Draw a prediction over an image, in green, or each class in its colour; and the truth's outline in yellow.

    Args:
        image: RGB (H, W, 3), 8 bit.
        prediction: mask (H, W); above 0 is foreground, or a class.
        truth: mask (H, W), if known.
        alpha: opacity of the prediction's area, in [0, 1]; its outline is opaque.
        colours: of class 1, 2 and so on; after the last the first comes again.

    Returns:
        RGB (H, W, 3), 8 bit.

    Raises:
        ValueError: When a mask is not as large as the image.
    """
    for mask in (prediction, truth):
        if mask is not None and mask.shape != image.shape[:2]:
            raise ValueError(f"A mask of {mask.shape} cannot be drawn over an image of {image.shape[:2]} pixels.")
    out = image.astype(np.float32)
    for number in np.unique(prediction[prediction > 0]):
        area, colour = prediction == number, colours[(int(number) - 1) % len(colours)]
        out[area] = (1 - alpha) * out[area] + alpha * np.asarray(colour, np.float32)
        out[_outline(area)] = colour
    if truth is not None:
        out[_outline(truth > 0)] = YELLOW
    return out.round().astype(np.uint8)
