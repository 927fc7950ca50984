# SPDX-License-Identifier: Apache-2.0
"""Connected components of masks and label maps, of any number of dimensions.

MONAI's own are not enough here: ``RemoveSmallObjects`` takes all pixels of a class for one object, ``FillHoles``
overwrites a class that lies inside another, and ``KeepLargestConnectedComponent`` changes what it is given.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import numpy as np
from scipy import ndimage

__all__ = ["clean_labels", "fill_holes", "keep_components"]


def _box(mask: np.ndarray) -> tuple[slice, ...] | None:
    """The smallest box around a mask, or None for an empty one."""
    spans = []
    for axis in range(mask.ndim):
        hit = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        if len(hit) == 0:
            return None
        spans.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return tuple(spans)


def keep_components(
    mask: np.ndarray, largest: bool = False, min_count: float = 0, connectivity: int | None = None
) -> np.ndarray:
    """Keep the largest component, or those that are large enough, or both.

    Args:
        mask: bool, any number of dimensions.
        largest: whether only the largest component is kept; of two as large, the one that comes first in the array.
        min_count: components of fewer pixels are removed; as a fraction, for a size in mm2 or mm3.
        connectivity: steps along axes that lead to a neighbour, from 1 (edges in 2D) to the number of dimensions
            (corners); None for the latter.

    Returns:
        bool, new.

    Example:
        >>> keep_components(np.array([True, False, True, True]), largest=True)
        array([False, False,  True,  True])
    """
    kept = np.zeros_like(mask, dtype=bool)
    box = _box(mask)
    if box is None:
        return kept
    structure = ndimage.generate_binary_structure(mask.ndim, connectivity or mask.ndim)
    components, count = ndimage.label(mask[box], structure)
    # In parts, since bincount makes a copy of twice the size.
    parts = np.array_split(components, 16)
    sizes = sum((np.bincount(part.ravel(), minlength=count + 1) for part in parts), np.zeros(count + 1, np.int64))[1:]
    # A size in mm divided by a pixel's carries a rounding error: one that is just reached must not fail by it.
    wanted = sizes >= min_count * (1 - 1e-9)
    if largest:
        wanted &= np.arange(count) == sizes.argmax()
    kept[box] = np.concatenate([[False], wanted])[components]
    return kept


def fill_holes(labels: np.ndarray, classes: Iterable[int]) -> np.ndarray:
    """Give holes the class that encloses them.

    A hole of a class is background that touches it and from which every path over pixels' edges (faces in 3D) to the
    border crosses it. Background that only two classes together enclose stays as it is, and so does another class
    inside: the ring of a heart's muscle does not swallow the blood in it.

    Args:
        labels: class indices, 0 for background; bool for one class.
        classes: those whose holes are filled.

    Returns:
        As ``labels``, new.

    Example:
        >>> fill_holes(np.array([[2, 2, 2], [2, 0, 2], [2, 2, 2]]), [2])[1]
        array([2, 2, 2])
    """
    filled = labels.copy()
    for value in classes:
        own = labels == value
        box = _box(own)
        if box is None:
            continue
        # One pixel around, so that what opens to the side of the box is no hole.
        inside = np.pad(own[box], 1)
        background = np.pad(labels[box] == 0, 1, constant_values=True)
        around, _ = ndimage.label(~inside)
        enclosed = around != around.flat[0]
        holes, count = ndimage.label(enclosed & background)
        touching = np.unique(holes[ndimage.binary_dilation(inside) & background])
        chosen = np.isin(np.arange(count + 1), touching)
        chosen[0] = False
        middle = tuple(slice(1, -1) for _ in box)
        filled[box][chosen[holes][middle]] = value
    return filled


def clean_labels(
    labels: np.ndarray,
    one_channel: bool,
    largest: Collection[int],
    min_counts: Mapping[int, float],
    holes: Collection[int],
    connectivity: int | None = None,
) -> np.ndarray:
    """Clean classes in place: components first, then holes.

    Args:
        labels: (1, ...) class indices, or (K, ...) masks of 0 and 1, of which channel 0 is class 1.
        one_channel: whether they are class indices.
        largest: classes of which only the largest component is kept.
        min_counts: classes, and how many pixels a component needs to stay.
        holes: classes whose holes are filled.
        connectivity: as in :func:`keep_components`.

    Returns:
        ``labels``.
    """
    for c in sorted(set(largest) | {c for c, count in min_counts.items() if count > 0}):
        channel, value = (labels[0], c) if one_channel else (labels[c - 1], 1)
        own = channel == value
        channel[own & ~keep_components(own, c in largest, min_counts.get(c, 0), connectivity)] = 0
    if one_channel:
        labels[0] = fill_holes(labels[0], sorted(holes))
    else:
        for c in sorted(holes):
            labels[c - 1] = fill_holes(labels[c - 1], [1])
    return labels
