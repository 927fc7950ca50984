# SPDX-License-Identifier: Apache-2.0
"""Weighted F-measure of prediction maps."""

from __future__ import annotations

import torch
from monai.utils import MetricReduction
from torch import Tensor

from monai_sam2unet.metrics.case_metric import check_beta2
from monai_sam2unet.metrics.empty_truth import EmptyTruth
from monai_sam2unet.metrics.map_metric import MapMetric
from monai_sam2unet.metrics.map_statistics import Maps
from monai_sam2unet.metrics.weighted_errors import weighted_errors

__all__ = ["WeightedFMeasureMetric", "compute_weighted_f_measure"]

EPS = torch.finfo(torch.float64).eps


def weighted_f_measure(maps: Maps, beta2: float, nothing: float) -> Tensor:
    """Weighted F of N maps, (N,); ``nothing`` where there is no object and nothing is predicted."""
    foreground = maps.counts[:, :, 1].sum(1)
    prediction, one = maps.in_units()
    missed, alarms = (errors / one for errors in weighted_errors(prediction, one, maps.truth))
    found = foreground - missed
    recall = found / foreground.clamp(min=1)
    precision = found / (found + alarms + EPS)
    score = (1 + beta2) * recall * precision / (recall + beta2 * precision + EPS)
    return torch.where((foreground == 0) & (alarms == 0), nothing, score)


class WeightedFMeasureMetric(MapMetric):
    """Weighted F-measure (Margolin et al., CVPR 2014): errors far from the object weigh more, those by its edge less.

    Higher is better, at most 1. Equal to PySODMetrics' ``WeightedFmeasure`` within rounding; distances beyond 103
    pixels count as 104, where the weight has come to its limit but for 6e-7.

    Args:
        beta2: weight of precision against recall, squared; the paper: 1.
        empty_truth: what 0/0 counts, where there is no object and nothing is predicted: 0 (PySODMetrics and the papers)
            or 1; or ``"ignore"``: images without object are left out (NaN).
        normalize: whether each map is scaled by its lowest and highest value first, as the papers' tools do.
        reduction: MONAI's: ``"mean"``, ``"mean_batch"`` (one value a channel), ``"none"`` ...
        get_not_nans: whether ``aggregate`` returns the number of maps counted, too.

    Raises:
        ConfigError: When an option is not one of these, or beta2 is not above 0.

    Example:
        >>> metric = WeightedFMeasureMetric()
        >>> truth = torch.zeros(2, 1, 64, 64)
        >>> truth[:, :, 16:48, 16:48] = 1
        >>> metric(truth.roll(4, dims=3), truth).shape  # one value for each image and channel
        torch.Size([2, 1])
        >>> round(metric.aggregate().item(), 3)
        0.874
    """

    def __init__(
        self,
        beta2: float = 1.0,
        empty_truth: EmptyTruth = 0,
        normalize: bool = True,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
    ) -> None:
        super().__init__(empty_truth, normalize, reduction, get_not_nans)
        self.beta2 = check_beta2(beta2)

    def scores_of(self, maps: Maps) -> Tensor:
        """Weighted F of N maps, (N,)."""
        return weighted_f_measure(maps, self.beta2, self.nothing)


def compute_weighted_f_measure(
    y_pred: Tensor, y: Tensor, beta2: float = 1.0, empty_truth: EmptyTruth = 0, normalize: bool = True
) -> Tensor:
    """Weighted F-measure of each map; see :class:`WeightedFMeasureMetric`.

    Args:
        y_pred: maps (B, C, H, W): ``uint8`` levels 0 to 255, ``bool``, or floating point in [0, 1].
        y: truths of the same shape, in [0, 1].
        beta2: as in :class:`WeightedFMeasureMetric`.
        empty_truth: as in :class:`WeightedFMeasureMetric`.
        normalize: as in :class:`WeightedFMeasureMetric`.

    Returns:
        One value for each map, (B, C), float64; NaN where it is not counted.

    Raises:
        ConfigError: When an option is not allowed, or beta2 is not above 0.
        DataError: When shapes, types or values are not as said.
    """
    return WeightedFMeasureMetric(beta2, empty_truth, normalize).score_batch(y_pred, y)
