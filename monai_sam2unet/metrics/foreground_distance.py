# SPDX-License-Identifier: Apache-2.0
"""Distances to the foreground of many masks at once, on any device, and values carried over from the nearest pixel."""

from __future__ import annotations

import torch
from torch import Tensor

from monai_sam2unet.metrics.windows import cut_windows, rows_of_images

__all__ = ["FURTHEST", "TILE", "nearest_values", "squared_along_rows", "squared_distance", "squared_distance_in_tiles"]

# Whatever lies as far or further counts as this far. Its square, doubled, still fits 16 bits.
FURTHEST = 104
# Values are carried over up to this squared distance: the corner of a window of 7 by 7.
NEAREST = 18
# The nearest pixel of that corner may lie this many rows or columns away.
REACH = 4
# How often it is looked whether all distances are found.
LOOK_EVERY = 8
# Rows and columns of a tile.
TILE = (16, 32)
# How far is looked in all tiles, and then in those that are not done.
REACHES = (16, FURTHEST - 1)


def _numbers(like: Tensor) -> list[Tensor]:
    """0, 1, 2, ... as tensors: a number would be made one at every step, which takes as long as adding it."""
    return list(torch.arange(2 * FURTHEST, dtype=like.dtype, device=like.device).unbind())


def squared_along_rows(mask: Tensor) -> Tensor:
    """Squared distance of each pixel to the foreground of its row.

    Args:
        mask: foreground, (N, H, W), ``bool``.

    Returns:
        The same shape, ``int16``, at most the square of :data:`FURTHEST`.
    """
    distance = (1 - mask.view(torch.uint8)).to(torch.int16).mul_(FURTHEST)
    further = torch.empty_like(distance)
    step = 1
    while step < min(FURTHEST, mask.shape[2]):
        torch.add(distance, step, out=further)
        torch.minimum(distance[:, :, step:], further[:, :, :-step], out=distance[:, :, step:])
        torch.minimum(distance[:, :, :-step], further[:, :, step:], out=distance[:, :, :-step])
        step *= 2
    return distance.mul_(distance)


def squared_distance(along_rows: Tensor, wanted: Tensor, above: int = 0) -> Tensor:
    """Squared Euclidean distance of many pixels to the nearest foreground pixel.

    Rows ``k`` away can only make a distance less than it is where it is above ``k``: so the work ends once no wanted
    pixel has one.

    Args:
        along_rows: what :func:`squared_along_rows` gave, (N, H, W); used up.
        wanted: the pixels whose distance is asked for, (N, H', W), ``uint8``, 1 or 0; H' is larger than H where images
            go on above and below without foreground.
        above: how many rows of ``wanted`` lie above the first of ``along_rows``.

    Returns:
        Squared distances in pixels, (N, H', W), ``int16``: at most the square of :data:`FURTHEST`; 0 where not wanted.
    """
    height, below = along_rows.shape[1], wanted.shape[1] - above
    best = wanted.to(torch.int16).mul_(FURTHEST * FURTHEST)
    beside = best[:, above : above + height]
    torch.minimum(beside, along_rows, out=beside)
    candidates = along_rows
    numbers = _numbers(best)
    for k in range(1, min(FURTHEST, height + max(above, below - height))):
        if k % LOOK_EVERY == 0 and int(best.amax()) <= k * k:
            break
        candidates.add_(numbers[2 * k - 1])  # k * k by now
        if k < above + height:
            upwards = best[:, max(above - k, 0) : above + height - k]
            torch.minimum(upwards, candidates[:, max(k - above, 0) :], out=upwards)
        if k < below:
            downwards = best[:, above + k : above + height + k]
            torch.minimum(downwards, candidates[:, : below - k], out=downwards)
    return best


def squared_distance_in_tiles(along_rows: Tensor, wanted: Tensor, images: Tensor, top: Tensor, left: Tensor) -> Tensor:
    """Squared Euclidean distance as :func:`squared_distance` gives it, in a few tiles of the images.

    Args:
        along_rows: what :func:`squared_along_rows` gave, (N, H, W).
        wanted: the pixels of each tile whose distance is asked for, (M, 16, 32), ``uint8``, 1 or 0.
        images: the image each tile lies in, (M,), int64.
        top: its first row, (M,); it may lie above or below the image, where there is no foreground.
        left: its first column, (M,).

    Returns:
        Squared distances in pixels, (M, 16, 32), ``int16``: at most the square of :data:`FURTHEST`; 0 where not wanted.
    """
    height = along_rows.shape[1]
    nothing = FURTHEST * FURTHEST
    rows_of_all = torch.nn.functional.pad(along_rows.flatten(0, 1), (0, 0, 0, 1), value=nothing)
    result = wanted.to(torch.int16).mul_(nothing)
    squares = [k * k for k in _numbers(result)[:FURTHEST]]
    left_over = torch.arange(len(wanted), device=wanted.device)
    first = 0
    for reach in REACHES:
        if len(left_over) == 0:
            break
        rows = rows_of_images(
            images[left_over], top[left_over] - reach, TILE[0] + 2 * reach, height, len(rows_of_all) - 1
        )
        sources = cut_windows(rows_of_all, rows, left[left_over], TILE[1])
        best = result[left_over]
        candidates = torch.empty_like(best)
        for k in range(first, reach + 1):
            if k % LOOK_EVERY == 0 and int(best.amax()) <= k * k:
                break
            for start in (reach - k, reach + k):
                torch.add(sources[:, start : start + TILE[0]], squares[k], out=candidates)
                torch.minimum(best, candidates, out=best)
        result[left_over] = best
        left_over = left_over[best.amax((1, 2)) > reach * reach]
        first = reach + 1
    return result


def nearest_values(values: Tensor, mask: Tensor) -> Tensor:
    """Give background pixels near the foreground the value of their nearest foreground pixel.

    Of several at one distance it is the leftmost, and of these the uppermost, as in
    :func:`scipy.ndimage.distance_transform_edt`.

    Args:
        values: (N, H, W), ``uint8``, or ``float32`` not below 0.
        mask: foreground, the same shape, ``bool``.

    Returns:
        The values, float32; those of pixels further than :data:`NEAREST`, squared, from the foreground are not defined.
    """
    # A number that sorts by squared distance, then column, then row, has the value's bits as its last ones: the least
    # number along rows, then along columns, so brings its value with it.
    if values.dtype == torch.uint8:
        bits, best = 8, values.to(torch.int32)
    else:
        bits, best = 32, values.view(torch.int32).to(torch.int64)
    # Among (column, row) from (-4, -4) to (4, 4) ties differ by 80 at most, so distances stay apart.
    tie, distance = 2 * REACH + 1, 128
    best.add_((1 - mask.view(torch.uint8)).to(best.dtype), alpha=(4 * REACH * REACH * distance) << bits)
    y, x = (torch.arange(size, dtype=best.dtype, device=mask.device) << bits for size in mask.shape[1:])
    best.add_(y[:, None] + tie * x)
    for dim in (2, 1):
        candidates = best.clone()
        size = best.shape[dim]
        for k in range(1, min(REACH, size - 1) + 1):
            candidates.add_(((2 * k - 1) * distance) << bits)  # k * k of them by now
            here, there = best.narrow(dim, k, size - k), candidates.narrow(dim, 0, size - k)
            torch.minimum(here, there, out=here)
            here, there = best.narrow(dim, 0, size - k), candidates.narrow(dim, k, size - k)
            torch.minimum(here, there, out=here)
    if bits == 8:
        return best.bitwise_and_(255).float()
    return best.bitwise_and_(2**32 - 1).to(torch.int32).view(torch.float32)
