# SPDX-License-Identifier: Apache-2.0
"""Makes a mask follow an annotator's clicks and scribbles, from probabilities that were computed once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.inferers.geodesic import geodesic_distances
from monai_sam2unet.inferers.mark import Mark

__all__ = ["InteractiveRefiner"]

#: Odds beyond this are as good as certain; natural logarithm.
MAX_LOG_ODDS = 8.0
#: How sure of its class a marked pixel is.
MARKED_LOG_ODDS = 4.0
#: Reach of a mark, as a multiple of its distance to the border of what it is in.
GROWTH = 6.0
#: Marks whose influences are kept for the next call, or those of the last one if they are more.
MAX_MARK_BYTES = 256 * 2**20
MAX_MARKS = 64

Window = tuple[slice, ...]


@dataclass(frozen=True)
class _Influence:
    """Of one mark: where, how far pixels are as a share of its reach, and which it would change if it were alone."""

    window: Window
    distance: NDArray[np.float16]
    follows: NDArray[np.bool_]

    @property
    def nbytes(self) -> int:
        return self.distance.nbytes + self.follows.nbytes


class InteractiveRefiner:
    """The mask of one image, and of any marks on it. The network is not run again, so it answers at once.

    A mark changes the log odds of its class round it: so much that the marked pixel is surely right, and less with the
    geodesic distance d from it, by the factor ``(1 - (d / r)^2)^2`` (Tukey's biweight), which is 0 from the reach r on.
    Pixels that the network already was in doubt of follow sooner, and the image's edges hold the change back. That is
    the fusion of a network's probabilities with geodesic distances to the clicks of MIDeepSeg (Luo et al., Medical
    Image Analysis 2021, https://doi.org/10.1016/j.media.2021.102102), without its graph cut, and in log
    odds instead of probabilities.

    The reach r is six times the distance from the mark to the border of the segment, or of the background, that it lies
    in (of a stroke the largest), within ``min_reach`` and ``max_reach``: a mark in the middle of what is wrong changes
    much, one near a border little. Of several marks the geodesically nearest counts, d / r.

    These hold always: without marks the mask is ``labels``; marked pixels are as they were marked; other pixels change
    only to what a mark asks for, only if joined to it by others that do so, and nowhere farther from it than its reach.

    Args:
        probabilities: (K, H, W) or (K, X, Y, Z), of each class, the background first; of one channel that of the
            object, which is class 1.
        labels: (H, W) or (X, Y, Z), classes: the mask without marks.
        image: (C, ...) on the same grid, about in [0, 1].
        spacing: mm between neighbours along each axis. None for pictures: their longer side is 1.
        threshold: of one channel: the probability from which on a pixel is the object's.
        min_reach: in units of ``spacing``; None: 5 mm, or 0.02 of a picture's longer side.
        max_reach: None: 50 mm, or half a picture's longer side.

    Raises:
        ConfigError: When the threshold or a reach is not allowed.
        DataError: When the shapes do not belong together.

    Example:
        >>> probabilities, image = np.full((1, 20, 20), 0.1, np.float32), np.zeros((1, 20, 20))
        >>> image[0, 4:9, 4:9] = 1.0
        >>> refiner = InteractiveRefiner(probabilities, np.zeros((20, 20), np.uint8), image)
        >>> mask = refiner([Mark(1, [[6, 6]])])
        >>> int(mask[6, 6]), int(mask[5, 5]), int(mask[2, 2]), int(mask[15, 15])
        (1, 1, 0, 0)
    """

    def __init__(
        self,
        probabilities: NDArray[np.floating],
        labels: NDArray[np.integer],
        image: NDArray[np.floating],
        spacing: Sequence[float] | None = None,
        threshold: float = 0.5,
        min_reach: float | None = None,
        max_reach: float | None = None,
    ) -> None:
        if not probabilities.shape[1:] == labels.shape == image.shape[1:]:
            raise DataError(
                f"Probabilities {probabilities.shape}, labels {labels.shape} and image {image.shape} must be on one "
                "grid, the first and the last with a channel axis before."
            )
        share = 1 / max(labels.shape)
        self.spacing = (share,) * labels.ndim if spacing is None else tuple(float(gap) for gap in spacing)
        in_mm = spacing is not None
        self.min_reach = min_reach if min_reach is not None else 5.0 if in_mm else 0.02
        self.max_reach = max_reach if max_reach is not None else 50.0 if in_mm else 0.5
        if not (0 < threshold < 1 and 0 < self.min_reach <= self.max_reach):
            raise ConfigError(
                f"threshold must lie in (0, 1) and reaches be above 0, the smaller first; got {threshold}, "
                f"{self.min_reach}, {self.max_reach}."
            )
        if len(self.spacing) != labels.ndim or not min(self.spacing) > 0:
            raise DataError(f"spacing must be {labels.ndim} numbers above 0, got {spacing}.")
        self.probabilities, self.labels, self.image = probabilities, labels, image
        self.num_classes = max(len(probabilities), 2)
        self._offset = float(np.log(threshold / (1 - threshold))) if len(probabilities) == 1 else 0.0
        self._influences: OrderedDict[tuple[int, bool, bytes], _Influence] = OrderedDict()

    @property
    def nbytes(self) -> int:
        """Memory of what was given, and of what is kept of the marks."""
        kept = sum(influence.nbytes for influence in self._influences.values())
        return self.probabilities.nbytes + self.labels.nbytes + self.image.nbytes + kept

    def __call__(self, marks: Sequence[Mark]) -> NDArray[np.integer]:
        """The mask that follows the marks.

        Args:
            marks: in any order.

        Returns:
            (H, W) or (X, Y, Z), new, classes in the type of ``labels``.

        Raises:
            DataError: When a mark lies outside of the image, its class is not known, or two contradict each other.
        """
        self._check(marks)
        result = self.labels.copy()
        if not marks:
            return result
        # Of equal distances the first counts: the order must not.
        marks = sorted(marks, key=lambda mark: mark.key)
        influences = [self._influence(mark) for mark in marks]
        corner = np.min([[side.start for side in one.window] for one in influences], 0)
        end = np.max([[side.stop for side in one.window] for one in influences], 0)
        nearest = np.ones(end - corner, np.float16)
        owner = np.full(nearest.shape, -1, np.int32)
        places = [
            tuple(slice(side.start - first, side.stop - first) for side, first in zip(one.window, corner, strict=True))
            for one in influences
        ]
        for number, (place, influence) in enumerate(zip(places, influences, strict=True)):
            closer = influence.distance < nearest[place]
            nearest[place][closer] = influence.distance[closer]
            owner[place][closer] = number
        for number, mark in enumerate(marks):
            owner[tuple(np.asarray(mark.pixels).T - corner[:, None])] = number
        for asked in sorted({(mark.label, mark.include) for mark in marks}):
            alike = [number for number, mark in enumerate(marks) if (mark.label, mark.include) == asked]
            changed = np.zeros(nearest.shape, bool)
            for number in alike:
                owned = owner[places[number]] == number
                changed[places[number]] |= influences[number].follows & owned
            for number in alike:
                self._change(result, marks[number], influences[number].window, changed[places[number]])
        while len(self._influences) > len(marks) and (
            len(self._influences) > MAX_MARKS or sum(one.nbytes for one in self._influences.values()) > MAX_MARK_BYTES
        ):
            self._influences.popitem(last=False)
        return result

    def _check(self, marks: Sequence[Mark]) -> None:
        if not marks:
            return
        shape = self.labels.shape
        for mark in marks:
            if mark.label >= self.num_classes:
                raise DataError(f"There is no class {mark.label}; there are 0 to {self.num_classes - 1}.")
            pixels = np.asarray(mark.pixels)
            same = pixels.shape[1] == len(shape)
            outside = pixels[((pixels < 0) | (pixels >= shape)).any(1)] if same else pixels
            if len(outside):
                raise DataError(f"Pixel {outside[0].tolist()} lies outside of the image, which has {shape}.")
        groups = {said: number for number, said in enumerate({(mark.label, mark.include) for mark in marks})}
        flat = np.concatenate([np.ravel_multi_index(mark.index, shape) for mark in marks])
        said = np.concatenate([np.full(len(mark.pixels), groups[mark.label, mark.include]) for mark in marks])
        pixels, counts = np.unique(np.unique(np.stack([flat, said]), axis=1)[0], return_counts=True)
        if counts.max() > 1:
            pixel = np.unravel_index(pixels[counts.argmax()], shape)
            raise DataError(f"Two marks contradict each other at pixel {[int(index) for index in pixel]}.")

    def _log_odds(self, values: NDArray[np.floating], label: int) -> NDArray[np.float32]:
        """Of a class against the likeliest other one: values (K, N) to (N,)."""
        p = np.maximum(values.astype(np.float32), 1e-8)
        if len(p) == 1:
            found = np.log(p[0]) - np.log(np.maximum(1 - p[0], 1e-8)) - self._offset
            found = found if label == 1 else -found
        else:
            found = np.log(p[label]) - np.log(np.delete(p, label, 0).max(0))
        return np.clip(found, -MAX_LOG_ODDS, MAX_LOG_ODDS)

    def _values(self, window: Window, chosen: NDArray[np.bool_]) -> NDArray[np.floating]:
        """Probabilities (K, N) of some of a window's pixels."""
        place: tuple[Any, ...] = (slice(None), *window)
        return self.probabilities[place][:, chosen]

    def _evidence(self, mark: Mark, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """What the network says for the mark, as log odds."""
        found = self._log_odds(values, mark.label)
        return found if mark.include else -found

    def _influence(self, mark: Mark) -> _Influence:
        known = self._influences.get(mark.key)
        if known is not None:
            self._influences.move_to_end(mark.key)
            return known
        at: tuple[Any, ...] = (slice(None), *mark.index)
        pixels = np.asarray(mark.pixels)
        reach = float(np.clip(GROWTH * self._depth(pixels), self.min_reach, self.max_reach))
        log_odds = max(MARKED_LOG_ODDS - float(np.median(self._evidence(mark, self.probabilities[at]))), 0.0)
        window = self._round(pixels, reach)
        local = pixels - [side.start for side in window]
        place: tuple[Any, ...] = (slice(None), *window)
        distances = geodesic_distances(self.image[place], local, self.spacing)
        distance = np.minimum(distances / reach, 1).astype(np.float16)
        found = _Influence(window, distance, self._follows(mark, window, distance, log_odds))
        self._influences[mark.key] = found
        return found

    def _round(self, pixels: NDArray[np.int64], distance: float) -> Window:
        margin = np.ceil(distance / np.asarray(self.spacing)).astype(int)
        low = np.maximum(pixels.min(0) - margin, 0)
        high = np.minimum(pixels.max(0) + margin + 1, self.labels.shape)
        return tuple(slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))

    def _depth(self, pixels: NDArray[np.int64]) -> float:
        """The largest distance from one of the pixels to the border of the segment that it lies in."""
        window = self._round(pixels, self.max_reach / GROWTH)
        labels = self.labels[window]
        index = tuple((pixels - [side.start for side in window]).T)
        deepest = 0.0
        for label in np.unique(labels[index]):
            segment = labels == label
            if segment.all():
                return self.max_reach
            depth = ndimage.distance_transform_edt(segment, self.spacing)
            deepest = max(deepest, float(depth[index].max()))
        return deepest

    def _follows(self, mark: Mark, window: Window, distance: NDArray[np.float16], log_odds: float) -> NDArray[np.bool_]:
        """Which pixels of the mark's window are to change."""
        change = (distance < 1) & ((self.labels[window] == mark.label) != mark.include)
        weight = (1 - distance[change].astype(np.float32) ** 2) ** 2
        change[change] = self._evidence(mark, self._values(window, change)) + weight * log_odds >= 0
        return change

    def _change(self, result: NDArray[np.integer], mark: Mark, window: Window, changed: NDArray[np.bool_]) -> None:
        """Set in the result what is joined to a mark."""
        marked = tuple((np.asarray(mark.pixels) - [side.start for side in window]).T)
        changed[marked] = True
        parts, _ = ndimage.label(changed, np.ones((3,) * changed.ndim))
        joined = np.zeros(parts.max() + 1, bool)
        joined[parts[marked]] = True
        change = joined[parts]
        if mark.include:
            result[window][change] = mark.label
            return
        change &= result[window] == mark.label
        others = self._values(window, change).astype(np.float32)
        if len(others) == 1:
            result[window][change] = 1 - mark.label
        else:
            others[mark.label] = -1
            result[window][change] = others.argmax(0)
