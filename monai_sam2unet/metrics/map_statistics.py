# SPDX-License-Identifier: Apache-2.0
"""Sums over the pixels of prediction maps that all measures but the weighted F-measure are made of."""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor

from monai_sam2unet.metrics.maps import check_maps
from monai_sam2unet.metrics.threshold_counts import ThresholdCounts
from monai_sam2unet.metrics.windows import at_once, sums_of_lines

__all__ = ["FloatMaps", "LevelMaps", "Maps", "each_maps"]

LEVELS = 256
# Pixels of 8 bits scored at once: bounds the memory. In floating point, where each takes more, half as many.
CHUNK = 2**22
# However small they are: a histogram takes what a map of 2000 pixels does.
MOST_MAPS = 1024
# Histograms of every fourth column are counted apart.
LANES = 4


class Maps(ABC):
    """Prediction maps with their truths, N of them.

    Attributes:
        truth: (N, H, W), ``bool``.
        counts: pixels by part of the image (upper left, upper right, lower left, lower right of the truth's centroid)
            and truth (background, foreground), (N, 4, 2), float64.
        sums: sums of the prediction over the same pixels.
        squares: sums of its square.
    """

    truth: Tensor
    counts: Tensor
    sums: Tensor
    squares: Tensor

    @abstractmethod
    def at_levels(self) -> ThresholdCounts:
        """Counts at the thresholds 0/255 to 255/255 of the map in 8 bits, rounded down: (N, 256)."""

    @abstractmethod
    def at(self, thresholds: Tensor) -> ThresholdCounts:
        """Counts at one threshold for each map, (N,)."""

    @abstractmethod
    def in_units(self) -> tuple[Tensor, Tensor]:
        """The maps in a unit of their own, (N, H, W), ``uint8`` or ``float32``, and what 1 is in that unit, (N,)."""

    def above(self, threshold: float) -> ThresholdCounts:
        """Counts above a threshold, not at it."""
        next_value = math.nextafter(threshold, math.inf)
        return self.at(self.counts.new_full((len(self.counts),), next_value))

    def adaptive_thresholds(self) -> Tensor:
        """Twice the mean of each map, 1 at most, (N,)."""
        return (2 * self.sums.sum((1, 2)) / self.counts.sum((1, 2))).clamp(max=1)


def _after_centroid(sums: Tensor) -> Tensor:
    """Which rows or columns lie after the truth's rounded centroid, from its sums over each, (N, size); 0 or 1."""
    sums = sums.double()
    place = torch.arange(sums.shape[1], dtype=torch.float64, device=sums.device)
    centre = ((sums @ place) / sums.sum(1).clamp(min=1)).round()
    return (place > centre[:, None]).to(torch.int32)


def _parts(truth: Tensor) -> tuple[Tensor, Tensor]:
    """Whether rows (N, H, 1) are in a lower part of the image, and columns (N, 1, W) in a right one; 0 or 1, int32."""
    below, right = (_after_centroid(sums) for sums in sums_of_lines(truth.view(torch.uint8)))
    return below[:, :, None], right[:, None, :]


def _histogram(levels: Tensor, truth: Tensor, below: Tensor, right: Tensor) -> Tensor:
    """Pixels by part of the image, truth and level, (N, 4, 2, 256), float64."""
    size = min(at_once(levels), MOST_MAPS // 8)
    return torch.cat(
        [_count(*some) for some in zip(*(x.split(size) for x in (levels, truth, below, right)), strict=True)]
    )


def _count(levels: Tensor, truth: Tensor, below: Tensor, right: Tensor) -> Tensor:
    n, _, width = levels.shape
    first, column = (torch.arange(size, dtype=torch.int32, device=levels.device) for size in (n, width))
    # Neighbours mostly have one level. As a count waits for the one before of the same bin, they have bins of their
    # own, to be summed afterwards.
    rows = first[:, None, None] * (LANES * 8 * LEVELS) + below * (4 * LEVELS)
    columns = (column % LANES) * (8 * LEVELS) + right * (2 * LEVELS)
    index = levels.to(torch.int32).add_(rows).add_(columns).add_(truth, alpha=LEVELS)
    bins = torch.bincount(index.view(-1), minlength=n * LANES * 8 * LEVELS)
    return bins.view(n, LANES, 4, 2, LEVELS).sum(1).double()


def _cumulated(histogram: Tensor) -> ThresholdCounts:
    """Counts at each level and above from a histogram (N, 2, 256)."""
    # As integers: sums of floating-point numbers have no fixed order on a GPU.
    above = histogram.long().flip(2).cumsum(2).flip(2).double()
    return ThresholdCounts(above[:, 1], above[:, 0], above[:, 1, :1], above[:, 0, :1])


class LevelMaps(Maps):
    """Maps of 8 bits: a histogram holds all there is to know, and arithmetic on it is exact.

    Args:
        levels: (N, H, W), ``uint8``.
        truth: (N, H, W), ``bool``.
        normalize: whether each map is scaled by its lowest and highest level first; constant maps are left as they are.
    """

    def __init__(self, levels: Tensor, truth: Tensor, normalize: bool) -> None:
        self.levels, self.truth = levels, truth
        self.histogram = _histogram(levels, truth, *_parts(truth))
        numbers = torch.arange(LEVELS, device=levels.device, dtype=torch.float64)
        present = self.histogram.sum((1, 2)) > 0
        low = torch.where(present, numbers, torch.inf).amin(1, keepdim=True)
        high = torch.where(present, numbers, -torch.inf).amax(1, keepdim=True)
        constant = (low == high) | (not normalize)
        self.low, self.high = torch.where(constant, 0, low), torch.where(constant, LEVELS - 1, high)
        # In the order of PySODMetrics' arithmetic, since rounding down is next.
        values, first, last = numbers / 255, self.low / 255, self.high / 255
        self.values = torch.where(constant, values, (values - first) / (last - first)).clamp(0, 1)
        self.counts = self.histogram.sum(3)
        self.sums = (self.histogram * self.values[:, None, None]).sum(3)
        self.squares = (self.histogram * self.values.square()[:, None, None]).sum(3)

    def at_levels(self) -> ThresholdCounts:
        """Counts at all 256 thresholds; see :class:`Maps`."""
        rounded = (self.values * 255).long()[:, None].expand(-1, 2, -1)
        histogram = self.histogram.sum(1)
        return _cumulated(torch.zeros_like(histogram).scatter_add_(2, rounded, histogram))

    def at(self, thresholds: Tensor) -> ThresholdCounts:
        """Counts at one threshold for each map, (N,); see :class:`Maps`."""
        histogram = self.histogram.sum(1)
        above = (histogram * (self.values >= thresholds[:, None])[:, None]).sum(2)
        everything = histogram.sum(2)
        return ThresholdCounts(above[:, 1], above[:, 0], everything[:, 1], everything[:, 0])

    def in_units(self) -> tuple[Tensor, Tensor]:
        """Levels above the lowest, and how many the highest lies above it; see :class:`Maps`."""
        low, high = self.low.to(torch.uint8), self.high.to(torch.uint8)
        return self.levels - low[..., None], (high - low)[:, 0]


class FloatMaps(Maps):
    """Maps in floating point: sums are taken over their own values, counts at levels over these in 8 bits.

    Args:
        prediction: (N, H, W) in [0, 1].
        truth: (N, H, W), ``bool``.
        normalize: whether each map is scaled by its lowest and highest value first; constant maps are left as they are.
    """

    def __init__(self, prediction: Tensor, truth: Tensor, normalize: bool) -> None:
        prediction = prediction.double()
        if normalize:
            low, high = prediction.amin((1, 2), keepdim=True), prediction.amax((1, 2), keepdim=True)
            constant = low == high
            prediction = (prediction - torch.where(constant, 0, low)).div_(torch.where(constant, 1, high - low))
        self.prediction, self.truth = prediction, truth
        below, right = _parts(truth)
        self.histogram = _histogram((prediction * 255).to(torch.uint8), truth, below, right)
        self.counts = self.histogram.sum(3)
        n = len(prediction)
        region = (below * 4 + right * 2).add(truth).long().view(n, -1)
        flat = prediction.view(n, -1)
        empty = prediction.new_zeros(n, 8)
        self.sums = empty.scatter_add(1, region, flat).view(n, 4, 2)
        self.squares = empty.scatter_add(1, region, flat.square()).view(n, 4, 2)

    def at_levels(self) -> ThresholdCounts:
        """Counts at all 256 thresholds; see :class:`Maps`."""
        return _cumulated(self.histogram.sum(1))

    def at(self, thresholds: Tensor) -> ThresholdCounts:
        """Counts at one threshold for each map, (N,); see :class:`Maps`."""
        above = self.prediction >= thresholds[:, None, None]
        everything = self.counts.sum(1)
        positives, hits = (
            x.view(torch.uint8).sum((1, 2), dtype=torch.int32).double() for x in (above, above & self.truth)
        )
        return ThresholdCounts(hits, positives - hits, everything[:, 1], everything[:, 0])

    def in_units(self) -> tuple[Tensor, Tensor]:
        """The maps as they are; see :class:`Maps`."""
        return self.prediction.float(), self.prediction.new_ones(len(self.prediction), dtype=torch.float32)


@functools.cache
def _keep_freed_memory() -> None:
    """Let the C library keep what is freed, instead of clearing new pages for every intermediate result.

    glibc hands freed memory back unless something of its size, up to 32 MB, was freed before. That is what happens
    here, once; nothing is written, so it takes no memory. Elsewhere it does nothing.
    """
    torch.empty(31 * 2**20, dtype=torch.uint8)


def each_maps(y_pred: Tensor, y: Tensor, normalize: bool) -> Iterator[Maps]:
    """Check maps and truths, and go through them so many at once that memory stays bounded.

    Args:
        y_pred: maps (B, C, H, W), as :func:`~monai_sam2unet.metrics.maps.check_maps` takes them.
        y: truths, the same shape.
        normalize: whether each map is scaled by its lowest and highest value first; constant maps are left as they are.

    Raises:
        DataError: As :func:`~monai_sam2unet.metrics.maps.check_maps`.
    """
    _keep_freed_memory()
    prediction, truth = check_maps(y_pred, y)
    kind, pixels = (LevelMaps, CHUNK) if prediction.dtype == torch.uint8 else (FloatMaps, CHUNK // 2)
    size = min(max(1, pixels // truth[0].numel()), MOST_MAPS)
    for part, true_part in zip(prediction.split(size), truth.split(size), strict=True):
        yield kind(part.contiguous(), true_part.contiguous(), normalize)
