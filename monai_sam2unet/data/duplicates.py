# SPDX-License-Identifier: Apache-2.0
"""Finds images that are in two sets, also re-encoded, resized, turned or cropped, by their fingerprints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_erosion, gaussian_filter

from monai_sam2unet.data.fingerprints import BLACK, VIEWS, Fingerprints
from monai_sam2unet.errors import ConfigError

__all__ = ["HASH_SIZE", "MAX_DISTANCE", "MIN_SIMILARITY", "TURNS", "Duplicate", "find_duplicates"]

Thumbnails = NDArray[np.uint8]

#: Side of the difference hash; it has the square of it, 256 bits.
HASH_SIZE = 16
# Both bounds are measured (docs/comparing.md): with them no pair of colonoscopies of different hospitals is taken for
# one image, and nearly all copies are found that were saved anew, resized, turned or changed in brightness.
#: Bits by which two hashes may differ.
MAX_DISTANCE = 64
#: Smallest correlation of the thumbnails' structure, in [-1, 1].
MIN_SIMILARITY = 0.88
#: Hashes that differ by this many bits at most need a similarity that is lower by ``SURE_ALLOWANCE``: what a system
#: draws over one of the pictures, such as a map of the endoscope's position, lowers the similarity most.
SURE_DISTANCE, SURE_ALLOWANCE = 32, 0.08

#: The eight ways in which an image may be turned or mirrored, on arrays (..., H, W).
TURNS: dict[str, Callable[[Thumbnails], Thumbnails]] = {
    "none": lambda x: x,
    "mirrored left-right": lambda x: x[..., ::-1],
    "mirrored top-bottom": lambda x: x[..., ::-1, :],
    "turned by 180": lambda x: x[..., ::-1, ::-1],
    "turned by 90": lambda x: np.rot90(x, axes=(-2, -1)),
    "turned by 270": lambda x: np.rot90(x, 3, axes=(-2, -1)),
    "mirrored at the diagonal": lambda x: np.swapaxes(x, -2, -1),
    "mirrored at the other diagonal": lambda x: np.swapaxes(x[..., ::-1, ::-1], -2, -1),
}
ROWS_AT_ONCE = 1024
# Of the correlation, in pixels of thumbnails of 32x32.
LIGHT_SIGMA, BLUR_SIGMA, LEAST_PIXELS = 6.0, 1.0, 50


@dataclass(frozen=True)
class Duplicate:
    """Two images that are one.

    Attributes:
        first: file of the first set.
        second: file of the second set.
        kind: ``"identical file"``, ``"identical pixels"``, or ``"near"``.
        turn: how the second must be turned to be the first; a key of :data:`TURNS`.
        distance: number of bits by which the hashes differ, 0 to 256.
        similarity: correlation of the structure of gray thumbnails, up to 1.
    """

    first: Path
    second: Path
    kind: str
    turn: str
    distance: int
    similarity: float

    @property
    def order(self) -> tuple[bool, int, float]:
        """What sorts the nearest first, exact ones before all others."""
        return self.kind == "near", self.distance, -self.similarity


def _signs(thumbnails: Thumbnails) -> NDArray[np.float32]:
    """Difference hashes (N, 256) as -1 and 1, so that a product of matrices counts the bits that agree."""
    hashes = [imagehash.dhash(Image.fromarray(np.ascontiguousarray(t)), HASH_SIZE).hash.ravel() for t in thumbnails]
    return np.where(np.reshape(hashes, (-1, HASH_SIZE**2)), 1, -1).astype(np.float32)


def _even(values: NDArray[np.float64], seen: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """Gaussian mean of the pixels that are seen, by none that are not."""
    share = np.maximum(gaussian_filter(seen, sigma, mode="nearest"), 1e-6)
    mean: NDArray[np.float64] = gaussian_filter(values * seen, sigma, mode="nearest") / share
    return mean


def _similarity(first: Thumbnails, second: Thumbnails) -> float:
    """Correlation of two thumbnails' structure at half their size; 0 where they show too little to tell."""
    a, b = (t.reshape(32, 2, 32, 2).mean((1, 3)) for t in (first, second))
    # The black frame of an endoscope is the same in all its pictures, and its edge is their strongest contrast.
    seen = (a > BLACK) & (b > BLACK)
    inside = binary_erosion(seen, border_value=1)
    if 2 * seen.sum() < ((a > BLACK) | (b > BLACK)).sum() or inside.sum() < LEAST_PIXELS:
        return 0.0
    weight = seen.astype(np.float64)
    # Its light, bright near by and dark far off, is alike in all its pictures, too: what is left when that is taken off
    # are folds, vessels and polyps, in a blur that forgives a shift of a pixel.
    details = [_even(x - _even(x, weight, LIGHT_SIGMA), weight, BLUR_SIGMA)[inside] for x in (a, b)]
    x, y = (d - d.mean() for d in details)
    size = float(np.sqrt((x**2).sum() * (y**2).sum()))
    return float((x * y).sum()) / size if size > 1e-6 else 0.0


def _candidates(
    first: Fingerprints, second: Fingerprints, max_distance: int, within: bool
) -> Iterator[tuple[int, int, int, str, int]]:
    """Pairs of images whose hashes are near: index, index, view, turn, distance."""
    for view in range(len(VIEWS)):
        signs = _signs(first.thumbnails[:, view])
        for turn, turned in TURNS.items():
            others = _signs(turned(second.thumbnails[:, view]))
            for start in range(0, len(signs), ROWS_AT_ONCE):
                agreeing = signs[start : start + ROWS_AT_ONCE] @ others.T
                distances = np.rint((HASH_SIZE**2 - agreeing) / 2).astype(int)
                for row, column in np.argwhere(distances <= max_distance):
                    if not within or start + row < column:
                        yield int(start + row), int(column), view, turn, int(distances[row, column])


def find_duplicates(
    first: Fingerprints,
    second: Fingerprints | None = None,
    max_distance: int = MAX_DISTANCE,
    min_similarity: float = MIN_SIMILARITY,
) -> list[Duplicate]:
    """Find the images of one set that are in another set, too.

    Exact duplicates have the same bytes, or the same pixels. For near ones, difference hashes of 256 bits (ImageHash)
    are compared in all eight turns, of the whole images and of what is inside their black borders, and pairs whose
    hashes are near are confirmed by the correlation of what gray thumbnails show inside black borders, light and
    shade taken off. That finds images that were saved anew,
    resized, turned, mirrored, brightened or darkened, or cropped by up to about 4 % on each side; and neighbouring
    frames of a video, as long as little moves. Images without any contrast are found only as exact duplicates.

    Args:
        first: one set, the training images say.
        second: the other; None looks for duplicates within the first.
        max_distance: bits by which hashes may differ, 0 to 256.
        min_similarity: smallest correlation of thumbnails, in [-1, 1]; 0.08 less is enough where the hashes differ by
            32 bits at most.

    Returns:
        One entry a pair, the nearest first.

    Raises:
        ConfigError: When ``max_distance`` or ``min_similarity`` is out of range.
    """
    if not 0 <= max_distance <= HASH_SIZE**2:
        raise ConfigError(f"The largest distance must lie between 0 and {HASH_SIZE**2} bits, got {max_distance}.")
    if not -1 <= min_similarity <= 1:
        raise ConfigError(f"The smallest similarity must lie between -1 and 1, got {min_similarity}.")
    within = second is None
    other = first if second is None else second
    found: dict[tuple[int, int], Duplicate] = {}
    for kind, digests, others in (
        ("identical file", first.file_digests, other.file_digests),
        ("identical pixels", first.pixel_digests, other.pixel_digests),
    ):
        places: dict[bytes, list[int]] = {}
        for i, digest in enumerate(digests):
            places.setdefault(digest, []).append(i)
        for j, digest in enumerate(others):
            for i in places.get(digest, []):
                if (not within or i < j) and (i, j) not in found:
                    found[i, j] = Duplicate(first.paths[i], other.paths[j], kind, "none", 0, 1.0)
    for i, j, view, turn, distance in _candidates(first, other, max_distance, within):
        known = found.get((i, j))
        if known is not None and known.kind != "near":
            continue
        similarity = _similarity(first.thumbnails[i, view], TURNS[turn](other.thumbnails[j, view]))
        if similarity >= min_similarity - (SURE_ALLOWANCE if distance <= SURE_DISTANCE else 0):
            match = Duplicate(first.paths[i], other.paths[j], "near", turn, distance, similarity)
            if known is None or match.order < known.order:
                found[i, j] = match
    return sorted(found.values(), key=lambda d: (d.order, str(d.first), str(d.second)))
