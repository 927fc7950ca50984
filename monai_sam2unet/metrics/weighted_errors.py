# SPDX-License-Identifier: Apache-2.0
"""The errors of the weighted F-measure: smoothed inside the foreground, weighted by distance outside of it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from monai_sam2unet.metrics.foreground_distance import (
    FURTHEST,
    REACH,
    TILE,
    nearest_values,
    squared_along_rows,
    squared_distance,
    squared_distance_in_tiles,
)
from monai_sam2unet.metrics.windows import Boxes, at_once, bounding_boxes, cut_windows, rows_of_images, sums_of_lines

__all__ = ["weighted_errors"]

# Margolin et al., CVPR 2014: a Gaussian of 7 by 7 pixels and sigma 5, and a weight that falls by half every 5 pixels.
RADIUS, SIGMA, HALF_LIFE = 3, 5.0, 5.0
# Distances are looked for in tiles where at most this share of them hold errors.
FEW_TILES = 0.4


def _smoothed(errors: Tensor) -> Tensor:
    """Gaussian over 7 by 7 pixels, zero outside; by sums of shifted images: a convolution of one channel is slower."""
    weights = [math.exp(-(i * i) / (2 * SIGMA * SIGMA)) for i in range(RADIUS + 1)]
    norm = weights[0] + 2 * sum(weights[1:])
    for dim in (2, 1):
        smoothed = errors * (weights[0] / norm)
        size = errors.shape[dim]
        for shift in range(1, min(RADIUS, size - 1) + 1):
            weight = weights[shift] / norm
            smoothed.narrow(dim, shift, size - shift).add_(errors.narrow(dim, 0, size - shift), alpha=weight)
            smoothed.narrow(dim, 0, size - shift).add_(errors.narrow(dim, shift, size - shift), alpha=weight)
        errors = smoothed
    return errors


def _total(errors: Tensor) -> Tensor:
    """Sum over each image, (N,), float64: of rows first, since a sum in float64 would copy all of it."""
    return errors.sum(2).double().sum(1)


def _most(sizes: Tensor) -> int:
    return int(sizes.amax().clamp(min=1))


def _inside(prediction: Tensor, one: Tensor, truth: Tensor, images: Tensor, boxes: Boxes) -> Tensor:
    """Sum of the errors over the foreground of some images, smoothed where that makes them less, (M,)."""
    image_height, image_width = prediction.shape[1:]
    height = min(image_height, _most(boxes.bottom - boxes.top) + 2 * REACH)
    width = min(image_width, _most(boxes.right - boxes.left) + 2 * REACH)
    top = (boxes.top - REACH).clamp(0, image_height - height)
    left = (boxes.left - REACH).clamp(0, image_width - width)
    rows = rows_of_images(images, top, height, image_height, 0)
    foreground = cut_windows(truth, rows, left, width)
    errors = one[images, None, None] - cut_windows(prediction, rows, left, width)
    smoothed = _smoothed(nearest_values(errors, foreground))
    return _total(torch.minimum(smoothed, errors, out=smoothed).mul_(foreground))


def _tiles(errors: Tensor) -> Tensor:
    """Which tiles of images (N, H, W) hold errors, (N, H / 16, W / 32)."""
    tiles = errors.unflatten(1, (-1, TILE[0]))
    # Rows are compared by halves: torch is slow to reduce other dimensions than all.
    while (rows := tiles.shape[2]) > 1:
        tiles = torch.maximum(tiles[:, :, : rows // 2], tiles[:, :, rows // 2 :])
    return tiles.unflatten(3, (-1, TILE[1])).amax((2, 4)) > 0


def _some(errors: Tensor) -> Tensor:
    """1 where there are errors, ``uint8``; torch is slow to compare bytes."""
    return errors.clamp(max=1) if errors.dtype == torch.uint8 else (errors > 0).view(torch.uint8)


def _weighted(errors: Tensor, squared: Tensor) -> Tensor:
    """Sum of errors, less by half every 5 pixels, (N,)."""
    return _total(squared.float().sqrt_().mul_(-1 / HALF_LIFE).exp2_().mul_(errors))


def _near(outside: Tensor, truth: Tensor, image_height: int, images: Tensor, boxes: Boxes, alarms: Boxes) -> Tensor:
    """Sum of the errors over the background of some images, less by half every 5 pixels from the foreground, (M,)."""
    both = boxes.around(alarms)
    width = -(-_most(both.right - both.left) // TILE[1]) * TILE[1]
    left = both.left.clamp(max=outside.shape[1] - width)
    height = _most(boxes.bottom - boxes.top)
    top = boxes.top.clamp(max=image_height - height)
    # The same row of all windows is the first with foreground. So distances need looking for from there only; rows
    # outside of an image are those of zeros below the last one.
    above = int((top - alarms.top).amax().clamp(min=0))
    below = int((alarms.bottom - top - height).amax().clamp(min=0))
    total = -(-(above + height + below) // TILE[0]) * TILE[0]
    rows = rows_of_images(images, top - above, total, image_height, len(outside) - 1)
    errors = cut_windows(outside, rows, left, width)
    along_rows = squared_along_rows(cut_windows(truth, rows[:, above : above + height], left, width))
    tiles = _tiles(errors)
    image, row, column = tiles.nonzero().unbind(1)
    if len(image) > FEW_TILES * tiles.numel():
        return _weighted(errors, squared_distance(along_rows, _some(errors), above))
    row, column = row * TILE[0], column * TILE[1]
    in_tiles = cut_windows(errors, rows_of_images(image, row, TILE[0], total, 0), column, TILE[1])
    wanted = _some(in_tiles)
    squared = squared_distance_in_tiles(along_rows, wanted, image, row - above, column)
    return torch.zeros(len(images), dtype=torch.float64, device=image.device).index_add_(
        0, image, _weighted(in_tiles, squared)
    )


def weighted_errors(prediction: Tensor, one: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Sum the weighted errors in the foreground and in the background.

    Args:
        prediction: (N, H, W), ``uint8`` or ``float32``, not below 0.
        one: what counts as 1 in each map, (N,), the same type; no prediction is above it.
        truth: (N, H, W), ``bool``.

    Returns:
        The sums over the foreground, and over the background, (N,) each, float64, in the prediction's unit.
    """
    n, height, width = truth.shape
    prediction, truth = prediction.contiguous(), truth.contiguous()
    foreground = truth.view(torch.uint8)
    # Tiles may go on beyond the last column, and there is one more row of zeros: see _near.
    outside = prediction.new_zeros(n * height + 1, width + TILE[1])
    alarms = outside[:-1].view(n, height, -1)[:, :, :width]
    torch.mul(prediction, 1 - foreground, out=alarms)
    boxes = bounding_boxes(*sums_of_lines(foreground))
    alarms_in_rows, alarms_in_columns = sums_of_lines(alarms)
    alarm_boxes = bounding_boxes(alarms_in_rows, alarms_in_columns).within(boxes, FURTHEST)
    inside = torch.zeros(n, dtype=torch.float64, device=truth.device)
    near = torch.zeros_like(inside)
    wide_truth = torch.nn.functional.pad(truth, (0, TILE[1]))
    # Windows of a group have one size: images alike in this go together.
    for images in boxes.areas().argsort().split(at_once(truth)):
        inside[images] = _inside(prediction, one, truth, images, boxes[images])
    for images in boxes.around(alarm_boxes).areas().argsort().split(at_once(truth)):
        near[images] = _near(outside, wide_truth, height, images, boxes[images], alarm_boxes[images])
    return inside, 2 * alarms_in_rows.double().sum(1) - near
