# SPDX-License-Identifier: Apache-2.0
"""Boxes around what images hold, and windows of one size cut out of many images at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Boxes", "at_once", "bounding_boxes", "cut_windows", "rows_of_images", "sums_of_lines"]


# Pixels worked on at once on a CPU, so that they stay in its cache.
CACHED = 2**20


def at_once(images: Tensor) -> int:
    """How many of the images (N, H, W) to work on at once: all on a GPU, where what counts is the number of steps."""
    return max(1, CACHED // images[0].numel()) if images.device.type == "cpu" else len(images)


@dataclass(frozen=True)
class Boxes:
    """A box in each of N images; one without pixels begins where it could not begin later, and ends at 0.

    Attributes:
        top: first row, (N,), int64.
        bottom: the row after the last.
        left: first column.
        right: the column after the last.
    """

    top: Tensor
    bottom: Tensor
    left: Tensor
    right: Tensor

    def __getitem__(self, images: Tensor) -> Boxes:
        """The boxes of some images, by their indices."""
        return Boxes(self.top[images], self.bottom[images], self.left[images], self.right[images])

    def areas(self) -> Tensor:
        """Pixels in each box, (N,), int64."""
        return (self.bottom - self.top).clamp(min=0) * (self.right - self.left).clamp(min=0)

    def around(self, other: Boxes) -> Boxes:
        """The smallest boxes around these and others."""
        top, left = torch.minimum(self.top, other.top), torch.minimum(self.left, other.left)
        return Boxes(top, torch.maximum(self.bottom, other.bottom), left, torch.maximum(self.right, other.right))

    def within(self, other: Boxes, margin: int) -> Boxes:
        """What of these boxes lies no further than a margin from others."""
        return Boxes(
            torch.maximum(self.top, other.top - margin),
            torch.minimum(self.bottom, other.bottom + margin),
            torch.maximum(self.left, other.left - margin),
            torch.minimum(self.right, other.right + margin),
        )


def _ends(sums: Tensor) -> tuple[Tensor, Tensor]:
    """Where sums (N, size) first and last are above 0."""
    size = sums.shape[1]
    some = (sums > 0).long()
    ahead = torch.arange(size, 0, -1, device=sums.device)
    return size - (some * ahead).amax(1), (some * ahead.flip(0)).amax(1)


def sums_of_lines(images: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of the rows, (N, H), and of the columns, (N, W), of images (N, H, W); ``int32`` for ``uint8``."""
    kind = torch.int32 if images.dtype == torch.uint8 else None
    # By parts, since sums of another type copy all first.
    rows, columns = zip(
        *((part.sum(2, dtype=kind), part.sum(1, dtype=kind)) for part in images.split(at_once(images))), strict=True
    )
    return torch.cat(rows), torch.cat(columns)


def bounding_boxes(row_sums: Tensor, column_sums: Tensor) -> Boxes:
    """Boxes around the pixels above 0 of images that are nowhere below, from what :func:`sums_of_lines` gave."""
    return Boxes(*_ends(row_sums), *_ends(column_sums))


def rows_of_images(images: Tensor, top: Tensor, height: int, image_height: int, none: int) -> Tensor:
    """Rows of windows, counted through all images that lie one below the other.

    Args:
        images: the image of each window, (M,), int64.
        top: its first row in the image, (M,), int64; it may lie above or below the image.
        height: rows of each window.
        image_height: rows of each image.
        none: what stands for rows outside of the image.

    Returns:
        (M, height), int64.
    """
    rows = top[:, None] + torch.arange(height, device=top.device)
    inside = (rows >= 0) & (rows < image_height)
    return torch.where(inside, rows + images[:, None] * image_height, none)


def cut_windows(images: Tensor, rows: Tensor, left: Tensor, width: int) -> Tensor:
    """Copy windows of one size out of images.

    Args:
        images: contiguous, (..., W).
        rows: the rows of each window, counted through all images, (M, height), int64.
        left: the first column of each window, (M,), int64.
        width: columns of each window.

    Returns:
        (M, height, width).
    """
    starts = rows * images.shape[-1] + left[:, None]
    # A view with a row for every place at which one could begin: choosing rows of it copies them one by one.
    every = images.view(-1).as_strided((images.numel() - width + 1, width), (1, 1), images.storage_offset())
    return every.index_select(0, starts.view(-1)).view(*rows.shape, width)
