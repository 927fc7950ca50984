# SPDX-License-Identifier: Apache-2.0
"""Finds images that are in two sets, also re-encoded, resized, turned or cropped, by their fingerprints."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter1d

from monai_sam2unet.data.fingerprints import BLACK, THUMBNAIL_SIZE, VIEWS, Fingerprints
from monai_sam2unet.errors import ConfigError

__all__ = ["HASH_SIZE", "MAX_DISTANCE", "MIN_SIMILARITY", "TURNS", "Duplicate", "find_duplicates"]

Thumbnails = NDArray[np.uint8]
Floats = NDArray[np.float32]
Indices = NDArray[np.intp]

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
TURNS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "none": lambda x: x,
    "mirrored left-right": lambda x: x[..., ::-1],
    "mirrored top-bottom": lambda x: x[..., ::-1, :],
    "turned by 180": lambda x: x[..., ::-1, ::-1],
    "turned by 90": lambda x: np.rot90(x, axes=(-2, -1)),
    "turned by 270": lambda x: np.rot90(x, 3, axes=(-2, -1)),
    "mirrored at the diagonal": lambda x: np.swapaxes(x, -2, -1),
    "mirrored at the other diagonal": lambda x: np.swapaxes(x[..., ::-1, ::-1], -2, -1),
}
#: Of the ways to lay two pictures over each other (view, turn), so many are tried: those with the nearest hashes.
MOST_TRIES = 4
# What is held in memory at once: images of the first set whose hashes are compared, pairs whose thumbnails are.
ROWS_AT_ONCE, PAIRS_AT_ONCE = 128, 256
# A way that is not to be tried.
FAR = np.iinfo(np.int16).max
# Of the correlation, in pixels of thumbnails of 32x32.
HALF_SIZE, LIGHT_SIGMA, BLUR_SIGMA, LEAST_PIXELS = THUMBNAIL_SIZE // 2, 6.0, 1.0, 50
# Sum of squares, in gray values, below which what is left of a thumbnail is nothing but rounding.
LEAST_STRUCTURE = 1e-2


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


def _blurred(pictures: Floats, sigma: float) -> Floats:
    """Pictures (..., 32, 32) under a Gaussian, as products of matrices, which for many small ones are the fastest."""
    matrix = gaussian_filter1d(np.eye(HALF_SIZE, dtype=np.float32), sigma, axis=0, mode="nearest").T
    for _ in range(2):
        pictures = np.swapaxes((pictures.reshape(-1, HALF_SIZE) @ matrix).reshape(pictures.shape), -2, -1)
    return pictures


def _even(values: Floats, seen: Floats, sigma: float) -> Floats:
    """Gaussian mean of the pixels that are seen (B, 32, 32), by none that are not; of values (..., B, 32, 32)."""
    return _blurred(values * seen, sigma) / np.maximum(_blurred(seen, sigma), 1e-6)


def _eroded(seen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of thumbnails (B, 32, 32) that are seen with all their four neighbours, those outside taken for seen."""
    padded = np.pad(seen, ((0, 0), (1, 1), (1, 1)), constant_values=True)
    across, down = padded[:, 1:-1], padded[:, :, 1:-1]
    return seen & across[..., :-2] & across[..., 2:] & down[:, :-2] & down[:, 2:]


def _halved(thumbnails: Thumbnails) -> Floats:
    """Thumbnails (..., 64, 64) at half their size; exact, for a mean of four gray values is a quarter of a number."""
    shape = (*thumbnails.shape[:-2], HALF_SIZE, 2, HALF_SIZE, 2)
    return thumbnails.reshape(shape).mean((-3, -1), dtype=np.float32)


def _similarity(first: Floats, second: Floats) -> NDArray[np.float64]:
    """Correlations (B,) of what thumbnails (B, 32, 32) show; 0 where they show too little to tell."""
    # The black frame of an endoscope is the same in all its pictures, and its edge is their strongest contrast.
    seen = (first > BLACK) & (second > BLACK)
    either = (first > BLACK) | (second > BLACK)
    inside = _eroded(seen)
    telling = (2 * seen.sum((1, 2)) >= either.sum((1, 2))) & (inside.sum((1, 2)) >= LEAST_PIXELS)
    weight, inner = seen[telling].astype(np.float32), inside[telling].astype(np.float32)
    # Its light, bright near by and dark far off, is alike in all its pictures, too: what is left when that is taken off
    # are folds, vessels and polyps, in a blur that forgives a shift of a pixel.
    both = np.stack([first[telling], second[telling]])
    details = _even(both - _even(both, weight, LIGHT_SIGMA), weight, BLUR_SIGMA)
    details -= np.einsum("pbij,bij->pb", details, inner)[..., None, None] / inner.sum((1, 2))[:, None, None]
    details *= inner
    squares, products = np.einsum("pbij,pbij->pb", details, details), np.einsum("bij,bij->b", *details)
    size = np.sqrt(np.maximum(squares, LEAST_STRUCTURE).prod(0, dtype=np.float64))
    similarity = np.zeros(len(first))
    similarity[telling] = np.where((squares > LEAST_STRUCTURE).all(0), products / size, 0)
    return np.minimum(similarity, 1)


def _similarities(first: Floats, second: Floats, ways: Indices) -> NDArray[np.float64]:
    """Correlations (B,) of pairs of images' thumbnails (B, 2, 32, 32), each laid over the other in its own way."""
    views, turns = np.divmod(ways, len(TURNS))
    every = np.arange(len(ways))
    laid = second[every, views]
    for turn, turned in enumerate(TURNS.values()):
        laid[turns == turn] = turned(laid[turns == turn])
    return _similarity(first[every, views], laid)


def _near_pairs(
    first: Fingerprints, second: Fingerprints, max_distance: int, left_out: Collection[tuple[int, int]], within: bool
) -> Iterator[tuple[Indices, Indices, Indices, Indices]]:
    """Pairs of images whose hashes are near: indices (P,), indices (P,), ways (TRIES, P) and their distances."""
    signs = [_signs(first.thumbnails[:, view]) for view in range(len(VIEWS))]
    others = [[_signs(turned(second.thumbnails[:, view])) for turned in TURNS.values()] for view in range(len(VIEWS))]
    contrast, other_contrast = first.has_contrast, second.has_contrast
    # Images without black borders are the same in both views; one will do.
    same, other_same = ((x.thumbnails[:, 0] == x.thumbnails[:, 1]).all((1, 2)) for x in (first, second))
    known = np.array(sorted(left_out), dtype=np.intp).reshape(-1, 2)
    for start in range(0, len(first), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        distances = np.empty((len(VIEWS) * len(TURNS), len(first.paths[rows]), len(second)), np.int16)
        for view in range(len(VIEWS)):
            useful = np.logical_and.outer(contrast[rows, view], other_contrast[:, view])
            if view > 0:
                useful &= ~np.logical_and.outer(same[rows], other_same)
            for turn, turned_signs in enumerate(others[view]):
                bits = (HASH_SIZE**2 - signs[view][rows] @ turned_signs.T) / 2
                distances[view * len(TURNS) + turn] = np.where(useful, bits, FAR)
        near = distances.min(0, initial=FAR) <= max_distance
        here = known[(known[:, 0] >= rows.start) & (known[:, 0] < rows.stop)]
        near[here[:, 0] - start, here[:, 1]] = False
        if within:
            near &= np.less.outer(np.arange(start, start + len(near)), np.arange(len(second)))
        row, column = np.nonzero(near)
        of_pairs = distances[:, row, column]
        ways = np.argsort(of_pairs, axis=0, kind="stable")[:MOST_TRIES]
        yield start + row, column, ways, np.take_along_axis(of_pairs, ways, 0).astype(np.intp)


def find_duplicates(
    first: Fingerprints,
    second: Fingerprints | None = None,
    max_distance: int = MAX_DISTANCE,
    min_similarity: float = MIN_SIMILARITY,
) -> list[Duplicate]:
    """Find the images of one set that are in another set, too.

    Exact duplicates have the same bytes, or the same pixels. For near ones, difference hashes of 256 bits (ImageHash)
    are compared in all eight turns, of the whole images and of what is inside their black borders. Pairs whose hashes
    are near are confirmed by the correlation of what gray thumbnails show inside black borders, light and shade taken
    off: in the way in which the hashes are nearest, or else in one of the next three. That finds images that were saved
    anew, resized, turned, mirrored, brightened or darkened, or cropped by up to about 4 % on each side; and
    neighbouring frames of a video, as long as little moves.

    Blank images, those without contrast (:attr:`Fingerprints.has_contrast`), are found as exact duplicates only. Of
    images that are mostly blank, such as objects on white, nearly all hashes are near and much rests on the
    correlation: look at what is found, or lower ``max_distance``. They take longest, 200 against 100 of them some
    seconds.

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
    halves, other_halves = (_halved(x.thumbnails) for x in (first, other))
    turns = list(TURNS)
    for rows, columns, ways, distances in _near_pairs(first, other, max_distance, found, within):
        pending = np.arange(len(rows))
        for way, distance in zip(ways, distances, strict=True):
            pending = pending[distance[pending] <= max_distance]
            similarity = np.full(len(rows), -np.inf)
            for start in range(0, len(pending), PAIRS_AT_ONCE):
                some = pending[start : start + PAIRS_AT_ONCE]
                similarity[some] = _similarities(halves[rows[some]], other_halves[columns[some]], way[some])
            sure = similarity >= min_similarity - np.where(distance <= SURE_DISTANCE, SURE_ALLOWANCE, 0)
            for k in np.flatnonzero(sure):
                i, j, turn = int(rows[k]), int(columns[k]), turns[way[k] % len(turns)]
                found[i, j] = Duplicate(
                    first.paths[i], other.paths[j], "near", turn, int(distance[k]), float(similarity[k])
                )
            pending = pending[~sure[pending]]
    return sorted(found.values(), key=lambda d: (d.order, str(d.first), str(d.second)))
