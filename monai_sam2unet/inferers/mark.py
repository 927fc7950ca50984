# SPDX-License-Identifier: Apache-2.0
"""What an annotator says of some pixels: a click, or a stroke of a scribble."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from monai_sam2unet.errors import DataError

__all__ = ["Mark", "strokes"]


@dataclass(frozen=True, eq=False)
class Mark:
    """Pixels, or voxels, that belong to a class, or do not.

    Args:
        label: number of the class; 0 is the background.
        pixels: (N, D) whole numbers: their indices along the D axes of the image. One for a click.
        include: whether they belong to the class; else they belong to any other.

    Raises:
        DataError: When there are no pixels, or the class is below 0.

    Example:
        >>> Mark(1, [[4, 7]]).pixels
        array([[4, 7]])
    """

    label: int
    pixels: NDArray[np.int64] | Sequence[Sequence[int]]
    include: bool = True
    index: tuple[NDArray[np.int64], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        pixels = np.asarray(self.pixels)
        if pixels.ndim != 2 or 0 in pixels.shape or pixels.dtype.kind not in "iu" or self.label < 0:
            raise DataError(
                f"A mark is of a class from 0 on and has pixels (N, D) in whole numbers, at least one; got class "
                f"{self.label} and pixels of shape {pixels.shape}, {pixels.dtype}."
            )
        pixels = pixels.astype(np.int64)
        object.__setattr__(self, "pixels", pixels)
        object.__setattr__(self, "index", tuple(pixels.T))

    @property
    def key(self) -> tuple[int, bool, bytes]:
        """Equal for marks that say the same."""
        return self.label, self.include, np.asarray(self.pixels).tobytes()


def strokes(drawn: NDArray[np.bool_], label: int, include: bool = True) -> list[Mark]:
    """The connected parts of a scribble.

    Args:
        drawn: (H, W) or (X, Y, Z), where something was drawn; corners join.
        label: number of the class.
        include: as of :class:`Mark`.

    Example:
        >>> [stroke.pixels.tolist() for stroke in strokes(np.array([[1, 1, 0, 1]]) > 0, label=2)]
        [[[0, 0], [0, 1]], [[0, 3]]]
    """
    parts, count = ndimage.label(drawn, np.ones((3,) * drawn.ndim))
    found = ndimage.find_objects(parts)
    marks = []
    for number in range(1, count + 1):
        box = found[number - 1]
        pixels = np.argwhere(parts[box] == number) + [side.start for side in box]
        marks.append(Mark(label, pixels, include))
    return marks
