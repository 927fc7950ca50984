# SPDX-License-Identifier: Apache-2.0
"""S-measure of prediction maps."""

from __future__ import annotations

import torch
from monai.utils import MetricReduction
from torch import Tensor

from monai_sam2unet.metrics.case_metric import check_share
from monai_sam2unet.metrics.empty_truth import EmptyTruth
from monai_sam2unet.metrics.map_metric import MapMetric
from monai_sam2unet.metrics.map_statistics import Maps

__all__ = ["SMeasureMetric", "compute_s_measure"]

EPS = torch.finfo(torch.float64).eps
# Where a map is constant, whether a part counts 0 or 1 would hang on the last bit of a sum.
ROUNDING = 1e-13


def s_measure(maps: Maps, alpha: float) -> Tensor:
    """S-measure of N maps, (N,), from sums over their parts."""
    counts, sums, squares = maps.counts, maps.sums, maps.squares
    pixels, total = counts.sum((1, 2)), sums.sum((1, 2))
    foreground = counts[:, :, 1].sum(1)
    mean = total / pixels
    mixed = alpha * _object(counts.sum(1), sums.sum(1), squares.sum(1)) + (1 - alpha) * _region(counts, sums, squares)
    score = mixed.clamp(min=0)
    score = torch.where(foreground == 0, 1 - mean, score)
    return torch.where(foreground == pixels, mean, score)


def _or_zero(difference: Tensor, size: Tensor) -> Tensor:
    """The difference of two sums, 0 where it is what rounding leaves of equal ones."""
    return torch.where(difference.abs() <= ROUNDING * size, 0, difference)


def _spread(counts: Tensor, sums: Tensor, squares: Tensor) -> Tensor:
    """Sum of squared differences from the mean."""
    return _or_zero(squares - sums.square() / counts.clamp(min=1), squares).clamp(min=0)


def _object(counts: Tensor, sums: Tensor, squares: Tensor) -> Tensor:
    """The object-aware part (eq. 3 to 5 of the paper), of sums (N, 2) over background and foreground."""
    share = counts / counts.sum(1, keepdim=True)
    deviation = (_spread(counts, sums, squares) / (counts - 1).clamp(min=1)).sqrt()
    mean = sums / counts.clamp(min=1)
    # The background should be 0: its map is looked at upside down. The deviation stays.
    mean = torch.stack([1 - mean[:, 0], mean[:, 1]], 1)
    return (share * 2 * mean / (mean.square() + 1 + deviation + EPS)).sum(1)


def _region(counts: Tensor, sums: Tensor, squares: Tensor) -> Tensor:
    """The region-aware part (eq. 6 to 9), of sums (N, 4, 2): structural similarity of each part by its area."""
    pixels, total = counts.sum(2), sums.sum(2)
    some = pixels.clamp(min=1)
    mean_pred, mean_truth = total / some, counts[..., 1] / some
    freedom = pixels - 1 + EPS
    variance = _spread(pixels, total, squares.sum(2)) / freedom
    variance_truth = counts[..., 1] * (1 - mean_truth) / freedom
    covariance = _or_zero(sums[..., 1] - mean_pred * counts[..., 1], total) / freedom
    above = 4 * mean_pred * mean_truth * covariance
    below = (mean_pred.square() + mean_truth.square()) * (variance + variance_truth)
    alike = torch.where(above != 0, above / (below + EPS), (below == 0).double())
    # A part without pixels has no say.
    return (torch.where(pixels > 0, alike, 0) * pixels).sum(1) / pixels.sum(1)


class SMeasureMetric(MapMetric):
    """Structure measure (Fan et al., ICCV 2017): are object and regions alike?

    Higher is better, 0 to 1. Equal to PySODMetrics' ``Smeasure``. It looks at a map's values, at no threshold.

    Args:
        alpha: weight of the object-aware against the region-aware part, in [0, 1]; the paper: 0.5.
        empty_truth: ``"score"``: without object S is one minus the map's mean; or ``"ignore"``: such images are left
            out (NaN).
        normalize: whether each map is scaled by its lowest and highest value first, as the papers' tools do.
        reduction: MONAI's: ``"mean"``, ``"mean_batch"`` (one value a channel), ``"none"`` ...
        get_not_nans: whether ``aggregate`` returns the number of maps counted, too.

    Raises:
        ConfigError: When an option is not one of these, or alpha lies outside [0, 1].

    Example:
        >>> metric = SMeasureMetric()
        >>> truth = torch.zeros(2, 1, 64, 64)
        >>> truth[:, :, 16:48, 16:48] = 1
        >>> metric(0.9 * truth, truth).shape  # one value for each image and channel
        torch.Size([2, 1])
        >>> round(metric.aggregate().item(), 3)
        1.0
    """

    defined_for_empty = True

    def __init__(
        self,
        alpha: float = 0.5,
        empty_truth: EmptyTruth = "score",
        normalize: bool = True,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
    ) -> None:
        super().__init__(empty_truth, normalize, reduction, get_not_nans)
        self.alpha = check_share("alpha", alpha)

    def scores_of(self, maps: Maps) -> Tensor:
        """S of N maps, (N,)."""
        return s_measure(maps, self.alpha)


def compute_s_measure(
    y_pred: Tensor, y: Tensor, alpha: float = 0.5, empty_truth: EmptyTruth = "score", normalize: bool = True
) -> Tensor:
    """S-measure of each map; see :class:`SMeasureMetric`.

    Args:
        y_pred: maps (B, C, H, W): ``uint8`` levels 0 to 255, ``bool``, or floating point in [0, 1].
        y: truths of the same shape, in [0, 1].
        alpha: as in :class:`SMeasureMetric`.
        empty_truth: as in :class:`SMeasureMetric`.
        normalize: as in :class:`SMeasureMetric`.

    Returns:
        One value for each map, (B, C), float64; NaN where it is not counted.

    Raises:
        ConfigError: When an option is not allowed, or alpha lies outside [0, 1].
        DataError: When shapes, types or values are not as said.
    """
    return SMeasureMetric(alpha, empty_truth, normalize).score_batch(y_pred, y)
