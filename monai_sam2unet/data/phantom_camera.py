# SPDX-License-Identifier: Apache-2.0
"""The camera of the phantoms: the pixels it has, what of the scene it sees, and what it does to the picture.

Lengths are in units of the frame's short side and the origin is the frame's centre, so that a frame looks the same at
every size. Arrays are (H, W) unless told.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageFilter

__all__ = ["FloatArray", "Frame", "Point", "blurred", "capture", "field_of_view", "make_frame"]

FloatArray = NDArray[np.floating[Any]]
Point = tuple[float, float]


@dataclass(frozen=True)
class Frame:
    """The pixel grid, ``u`` rightwards and ``v`` downwards, ``scale`` in pixels per unit, and the frame's chance."""

    u: FloatArray
    v: FloatArray
    scale: int
    rng: Generator

    @property
    def half(self) -> Point:
        """Half the width and half the height."""
        return self.u.shape[1] / self.scale / 2, self.u.shape[0] / self.scale / 2

    def noise(self, cells: float) -> FloatArray:
        """Smooth noise of mean 0 and deviation near 1, with ``cells`` independent values along a unit length."""
        height, width = self.u.shape
        rows, columns = (max(2, min(side, round(cells * side / self.scale))) for side in (height, width))
        coarse = Image.fromarray(self.rng.standard_normal((rows, columns), dtype=np.float32))
        return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32)

    def log_uniform(self, low: float, high: float) -> float:
        """A positive number, every factor between ``low`` and ``high`` as likely."""
        return math.exp(self.rng.uniform(math.log(low), math.log(high)))


def make_frame(rng: Generator, height: int, width: int) -> Frame:
    """Lay the pixel grid of a frame.

    Args:
        rng: the frame's chance, which every part of the phantom draws from in turn.
        height: rows in pixels.
        width: columns in pixels.

    Returns:
        The frame, its grid (height, width) in units of the short side.
    """
    scale = min(height, width)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    return Frame((columns - (width - 1) / 2) / scale, (rows - (height - 1) / 2) / scale, scale, rng)


def blurred(values: FloatArray, radius: float | Point) -> FloatArray:
    """Blur by a Gaussian, through 8 bits, since Pillow blurs no floats.

    Args:
        values: (H, W) or (H, W, 3), clipped to [0, 1].
        radius: standard deviation in pixels, one or those along the rows and along the columns.

    Returns:
        The blurred values, float32 in [0, 1], of the same shape.
    """
    image = Image.fromarray((np.clip(values, 0, 1) * 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), np.float32) / 255


def field_of_view(frame: Frame) -> NDArray[np.bool_]:
    """Choose where the endoscope sees: the whole frame, an octagon or a disc cut by the frame.

    Args:
        frame: the pixel grid, (H, W).

    Returns:
        True (H, W) where something of the scene can be seen.
    """
    rng, (half_u, half_v) = frame.rng, frame.half
    kind = rng.integers(3)
    if kind == 0:
        return np.ones(frame.u.shape, np.bool_)
    if kind == 1:
        return np.hypot(frame.u, frame.v) < rng.uniform(0.84, 0.95) * math.hypot(half_u, half_v)
    room_u = half_u * rng.uniform(0.84, 0.98) - np.abs(frame.u)
    room_v = half_v * rng.uniform(0.92, 0.98) - np.abs(frame.v)
    return (room_u > 0) & (room_v > 0) & (room_u + room_v > rng.uniform(0.1, 0.28))


def capture(frame: Frame, scene: FloatArray, field: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Add what the camera adds to a scene: motion, blur, noise, the field's black rim, JPEG.

    Args:
        frame: the pixel grid, (H, W).
        scene: colours (H, W, 3), clipped to [0, 1].
        field: True (H, W) where the endoscope sees.

    Returns:
        The RGB image, uint8 (H, W, 3).
    """
    rng = frame.rng
    blur = frame.log_uniform(0.15, 0.8) * frame.scale / 288
    radius_u, radius_v = (blur + np.abs(rng.normal(0, 0.0025, 2)) * frame.scale).tolist()
    scene = blurred(scene, (radius_u, radius_v))
    grain = rng.standard_normal(scene.shape, np.float32) * rng.uniform(0.003, 0.02)
    seen = np.where(field[..., None], np.clip(scene + grain, 0, 1), rng.uniform(0.01, 0.06))
    image = Image.fromarray((seen * 255).astype(np.uint8))
    packed = io.BytesIO()
    image.save(packed, "JPEG", quality=int(rng.integers(60, 96)))
    return np.asarray(Image.open(packed).convert("RGB"))
