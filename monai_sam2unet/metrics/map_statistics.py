# SPDX-License-Identifier: Apache-2.0
"""Sums over the pixels of prediction maps that all measures but the weighted F-measure are made of."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from monai_sam2unet.metrics.maps import check_maps
from monai_sam2unet.metrics.threshold_counts import ThresholdCounts

__all__ = ["FloatMaps", "LevelMaps", "Maps", "each_maps"]

LEVELS = 256
# Pixels compared at once: bounds the memory to about a hundred bytes for each of them.
CHUNK = 2**21


class Maps(Protocol):
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

    def at_levels(self) -> ThresholdCounts:
        """Counts at the thresholds 0/255 to 255/255 of the map in 8 bits, rounded down: (N, 256)."""
        ...

    def at(self, thresholds: Tensor) -> ThresholdCounts:
        """Counts at one threshold for each map, (N,)."""
        ...

    def adaptive_thresholds(self) -> Tensor:
        """Twice the mean of each map, 1 at most, (N,)."""
        ...

    def above(self, threshold: float) -> ThresholdCounts:
        """Counts above a threshold, not at it."""
        ...

    def errors(self) -> Tensor:
        """Absolute difference of prediction and truth, (N, H, W), float32."""
        ...


def _parts(truth: Tensor) -> Tensor:
    """Which part of the image a pixel is in, 0 to 3, (N, H, W), int32: split after the truth's rounded centroid."""
    height, width = truth.shape[1:]
    rows = truth.sum(2, dtype=torch.float64)
    columns = truth.sum(1, dtype=torch.float64)
    foreground = rows.sum(1).clamp(min=1)
    y, x = (torch.arange(size, dtype=torch.float64, device=truth.device) for size in (height, width))
    centre_y, centre_x = (((sums @ place) / foreground).round() for sums, place in ((rows, y), (columns, x)))
    below = (y > centre_y[:, None]).to(torch.int32)[:, :, None]
    right = (x > centre_x[:, None]).to(torch.int32)[:, None, :]
    return below * 2 + right


def _histogram(levels: Tensor, truth: Tensor) -> Tensor:
    """Pixels by part of the image, truth and level, (N, 4, 2, 256), float64."""
    n = len(levels)
    index = _parts(truth) * (2 * LEVELS)
    index = (index + levels).add_(truth, alpha=LEVELS).view(n, -1)
    ones = torch.ones((), dtype=torch.int32, device=levels.device).expand_as(index)
    bins = torch.zeros(n, 4 * 2 * LEVELS, dtype=torch.int32, device=levels.device)
    return bins.scatter_add_(1, index.long(), ones).view(n, 4, 2, LEVELS).double()


def _cumulated(histogram: Tensor) -> ThresholdCounts:
    """Counts at each level and above from a histogram (N, 2, 256)."""
    above = histogram.flip(2).cumsum(2).flip(2)
    return ThresholdCounts(above[:, 1], above[:, 0], above[:, 1, :1], above[:, 0, :1])


class _Sums(ABC):
    counts: Tensor
    sums: Tensor

    @abstractmethod
    def at(self, thresholds: Tensor) -> ThresholdCounts: ...

    def above(self, threshold: float) -> ThresholdCounts:
        """Counts above a threshold, not at it."""
        next_value = math.nextafter(threshold, math.inf)
        return self.at(self.counts.new_full((len(self.counts),), next_value))

    def adaptive_thresholds(self) -> Tensor:
        """Twice the mean of each map, 1 at most, (N,)."""
        return (2 * self.sums.sum((1, 2)) / self.counts.sum((1, 2))).clamp(max=1)


class LevelMaps(_Sums):
    """Maps of 8 bits: a histogram holds all there is to know, and arithmetic on it is exact.

    Args:
        levels: (N, H, W), ``uint8``.
        truth: (N, H, W), ``bool``.
        normalize: whether each map is scaled by its lowest and highest level first; constant maps are left as they are.
    """

    def __init__(self, levels: Tensor, truth: Tensor, normalize: bool) -> None:
        self.levels, self.truth = levels, truth
        self.histogram = _histogram(levels, truth)
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

    def errors(self) -> Tensor:
        """Absolute difference of prediction and truth, (N, H, W), float32."""
        scale = 1 / (self.high - self.low)
        slope = scale[..., None].float()
        start = (-self.low * scale)[..., None].float()
        prediction = torch.addcmul(start, self.levels.float(), slope).clamp_(0, 1)
        return prediction.sub_(self.truth.float()).abs_()


class FloatMaps(_Sums):
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
            prediction = torch.where(low == high, prediction, (prediction - low) / (high - low))
        self.prediction, self.truth = prediction, truth
        self.histogram = _histogram((prediction * 255).to(torch.uint8), truth)
        self.counts = self.histogram.sum(3)
        n = len(prediction)
        region = (_parts(truth) * 2 + truth).long().view(n, -1)
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
        hits = (above & self.truth).sum((1, 2)).double()
        return ThresholdCounts(hits, above.sum((1, 2)) - hits, everything[:, 1], everything[:, 0])

    def errors(self) -> Tensor:
        """Absolute difference of prediction and truth, (N, H, W), float32."""
        return (self.prediction - self.truth.double()).abs().float()


def each_maps(y_pred: Tensor, y: Tensor, normalize: bool) -> Iterator[Maps]:
    """Check maps and truths, and go through them so many at once that memory stays bounded.

    Args:
        y_pred: maps (B, C, H, W), as :func:`~monai_sam2unet.metrics.maps.check_maps` takes them.
        y: truths, the same shape.
        normalize: whether each map is scaled by its lowest and highest value first; constant maps are left as they are.

    Raises:
        DataError: As :func:`~monai_sam2unet.metrics.maps.check_maps`.
    """
    prediction, truth = check_maps(y_pred, y)
    kind = LevelMaps if prediction.dtype == torch.uint8 else FloatMaps
    size = max(1, CHUNK // truth[0].numel()) if len(truth) else 1
    for part, true_part in zip(prediction.split(size), truth.split(size), strict=True):
        yield kind(part, true_part, normalize)
