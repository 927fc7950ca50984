# SPDX-License-Identifier: Apache-2.0
"""Geodesic distances round some pixels of an image: paths are longer where the image looks otherwise than there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage.graph import MCP_Geometric
from skimage.measure import block_reduce

from monai_sam2unet.errors import ConfigError, DataError

__all__ = ["geodesic_distances"]

#: How many axes ``interpolate`` is linear along.
MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


def _blocks(shape: Sequence[int], spacing: Sequence[float], max_elements: int) -> tuple[int, ...]:
    """Sides of the blocks that are taken together, as even in mm as they can be, so that there are few enough."""
    sides = [1] * len(shape)
    while np.prod([-(-size // side) for size, side in zip(shape, sides, strict=True)]) > max_elements:
        open_axes = [axis for axis in range(len(shape)) if sides[axis] < shape[axis]]
        sides[min(open_axes, key=lambda axis: spacing[axis] * sides[axis])] += 1
    return tuple(sides)


def geodesic_distances(
    image: NDArray[np.floating],
    pixels: NDArray[np.int64],
    spacing: Sequence[float],
    sensitivity: float = 35.0,
    max_elements: int = 2**16,
) -> NDArray[np.float32]:
    """Lengths of the shortest paths to some pixels, where a step is longer the more the image differs from these.

    A step of length s through values v costs ``s * (1 + sensitivity * |v - m|)``: m is the mean of the pixels' values,
    and || the root of the mean square over the channels; noise is taken from the image before (median of 3
    along each axis, which leaves edges where they are).
    So distances are never shorter than the straight line's. As in "geodesic" segmentation, where the weight is the
    change of what the pixels' colours say (Bai and Sapiro, IJCV 2009, https://doi.org/10.1007/s11263-008-0191-z).

    Args:
        image: (C, H, W) or (C, X, Y, Z), about in [0, 1].
        pixels: (N, D) indices of pixels along the D axes.
        spacing: distance of neighbours along each axis.
        sensitivity: factor of differences, at least 0; 0: straight lines.
        max_elements: of a larger image blocks are averaged, and distances interpolated.

    Returns:
        (H, W) or (X, Y, Z), in units of ``spacing``; 0 at the pixels.

    Raises:
        ConfigError: When an option is not allowed.
        DataError: When the image has other axes than there are spacings, or a pixel lies outside of it.

    Example:
        >>> image = np.array([[[0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0]]])
        >>> geodesic_distances(image, np.array([[0, 0]]), (1.0, 1.0), sensitivity=0).tolist()
        [[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]
        >>> bool(geodesic_distances(image, np.array([[0, 0]]), (1.0, 1.0))[0, 6] > 60)
        True
    """
    if not sensitivity >= 0 or max_elements < 1:
        raise ConfigError(
            f"sensitivity must be at least 0 and max_elements at least 1, got {sensitivity}, {max_elements}."
        )
    shape = image.shape[1:]
    if len(shape) != len(spacing) or pixels.shape[1:] != (len(shape),):
        raise DataError(f"An image {image.shape} has {len(shape)} axes; got spacing {spacing}, pixels {pixels.shape}.")
    if (pixels < 0).any() or (pixels >= shape).any():
        raise DataError(f"Some pixels lie outside of the image of {shape}.")
    sides = _blocks(shape, spacing, max_elements)
    whole = tuple(-(-size // side) * side for size, side in zip(shape, sides, strict=True))
    padding = [(0, 0), *((0, padded - size) for padded, size in zip(whole, shape, strict=True))]
    values = block_reduce(np.pad(image.astype(np.float32), padding, "edge"), (1, *sides), np.mean)
    values = ndimage.median_filter(values, (1, *(3,) * len(shape)), mode="nearest")
    starts = np.unique(pixels // sides, axis=0)
    mean = values[(slice(None), *starts.T)].mean(1)
    difference = np.sqrt(((values - mean.reshape(-1, *(1,) * len(shape))) ** 2).mean(0))
    paths = MCP_Geometric(
        1 + sensitivity * difference, sampling=tuple(gap * side for gap, side in zip(spacing, sides, strict=True))
    )
    distances = paths.find_costs(starts.tolist())[0].astype(np.float32)
    if max(sides) > 1:
        tensor = torch.from_numpy(distances)[None, None]
        resized = torch.nn.functional.interpolate(tensor, whole, mode=MODES[len(shape)])
        distances = resized[0, 0].numpy()[tuple(slice(size) for size in shape)].copy()
    distances[tuple(pixels.T)] = 0
    return distances
