# SPDX-License-Identifier: Apache-2.0
"""Distances to the foreground of many masks at once, on any device, and where the nearest foreground pixel lies."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

__all__ = ["FURTHEST", "nearest_foreground", "squared_distance"]

# Its square, doubled, still fits 16 bits. Whatever lies further counts as this far.
FURTHEST = 127
# Columns are worked on in strips of this width; those that are done are left alone.
STRIP = 32
# Steps at which it is worth looking which strips are done.
CHECKS = (5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112)
# Nearest pixels are found up to this squared distance: the corner of a window of 7 by 7.
NEAREST = 18


def _along_rows(mask: Tensor, width: int) -> Tensor:
    """Squared distance to the foreground of the same row, (N, H, width), int16; columns beyond the mask's are far."""
    n, height, own_width = mask.shape
    distance = torch.full((n, height, width), FURTHEST, dtype=torch.int16, device=mask.device)
    torch.mul(~mask, FURTHEST, out=distance[:, :, :own_width])
    step = 1
    while step <= min(FURTHEST, own_width):
        further = distance + step
        torch.minimum(distance[:, :, step:], further[:, :, :-step], out=distance[:, :, step:])
        torch.minimum(distance[:, :, :-step], further[:, :, step:], out=distance[:, :, :-step])
        step *= 2
    return distance.mul_(distance)


def _in_strips(x: Tensor) -> Tensor:
    """(N, H, W) as (N * W / STRIP, H, STRIP)."""
    n, height, width = x.shape
    return x.view(n, height, width // STRIP, STRIP).transpose(1, 2).reshape(-1, height, STRIP)


def squared_distance(mask: Tensor, wanted: Tensor) -> Tensor:
    """Squared Euclidean distance of each pixel to the nearest foreground pixel.

    Exact where ``wanted``, and up to a distance of 4 everywhere; elsewhere not less than it is. Distances of
    :data:`FURTHEST` and more may be given as any value not below its square.

    The square of the distance along rows is found first. Along columns, rows ``k`` away can only make it less than it
    is where it is above ``k * k``: so the work ends once no wanted pixel has a distance above ``k``.

    Args:
        mask: foreground, (N, H, W), ``bool``.
        wanted: where distances must be exact, (N, H, W), ``bool``.

    Returns:
        Squared distances in pixels, (N, H, W), ``int16``.
    """
    n, height, width = mask.shape
    padded = -(-width // STRIP) * STRIP
    along_rows = _in_strips(_along_rows(mask, padded))
    open_pixels = _in_strips(torch.nn.functional.pad(wanted, (0, padded - width)).to(torch.int16))
    result = best = along_rows.clone()
    strips: Tensor | None = None
    for k in range(1, min(FURTHEST, height - 1) + 1):
        if k in CHECKS:
            left = ((best * open_pixels).amax((1, 2)) > k * k).nonzero()[:, 0]
            if len(left) == 0:
                break
            if len(left) < 0.8 * len(best):
                if strips is None:
                    strips = torch.arange(len(result), device=mask.device)
                else:
                    result[strips] = best
                strips = strips[left]
                along_rows, open_pixels, best = along_rows[left], open_pixels[left], best[left]
        candidates = along_rows + k * k
        torch.minimum(best[:, k:], candidates[:, :-k], out=best[:, k:])
        torch.minimum(best[:, :-k], candidates[:, k:], out=best[:, :-k])
    if strips is not None:
        result[strips] = best
    return result.view(n, -1, height, STRIP).transpose(1, 2).reshape(n, height, padded)[:, :, :width]


@functools.lru_cache(maxsize=8)
def _offsets(device: torch.device) -> Tensor:
    """For each squared distance up to NEAREST the (dy, dx) of that length, the preferred first: (19, 8, 2)."""
    table = torch.zeros(NEAREST + 1, 8, 2, dtype=torch.int64)
    reach = range(-4, 5)
    for squared in range(1, NEAREST + 1):
        # Of several at one distance scipy takes the leftmost, then the uppermost; so do all published numbers.
        same = [(dy, dx) for dx in reach for dy in reach if dy * dy + dx * dx == squared]
        for i, offset in enumerate(same):
            table[squared, i] = torch.tensor(offset)
    return table.to(device)


def nearest_foreground(mask: Tensor, squared: Tensor) -> tuple[Tensor, Tensor]:
    """Find the nearest foreground pixel of each background pixel that has one within a window of 7 by 7.

    Of several at one distance it is the leftmost, and of these the uppermost, as in
    :func:`scipy.ndimage.distance_transform_edt`.

    Args:
        mask: foreground, (N, H, W), ``bool``.
        squared: what :func:`squared_distance` gave for it.

    Returns:
        Indices into the flattened mask, (M,) each: of the background pixels, and of their nearest foreground pixels.
    """
    height, width = mask.shape[1:]
    pixels = ((squared <= NEAREST) & ~mask).view(-1).nonzero()[:, 0]
    offsets = _offsets(mask.device)[squared.reshape(-1)[pixels].long()]
    padded = torch.nn.functional.pad(mask, (4, 4, 4, 4))
    y, x = pixels // width, pixels % width
    # Row y of all images together lies y + 8 * image + 4 rows down in the padded ones.
    corner = (y + 8 * (y // height) + 4) * (width + 8) + x + 4
    found = padded.view(-1)[corner[:, None] + offsets[..., 0] * (width + 8) + offsets[..., 1]]
    first = found.to(torch.uint8).argmax(1)
    dy, dx = offsets[torch.arange(len(pixels), device=mask.device), first].unbind(1)
    return pixels, pixels + dy * width + dx
