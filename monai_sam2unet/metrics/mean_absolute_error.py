# SPDX-License-Identifier: Apache-2.0
"""Mean absolute error of prediction maps."""

from __future__ import annotations

from monai.utils import MetricReduction
from torch import Tensor

from monai_sam2unet.metrics.empty_truth import EmptyTruth
from monai_sam2unet.metrics.map_metric import MapMetric
from monai_sam2unet.metrics.map_statistics import Maps

__all__ = ["MeanAbsoluteErrorMetric", "compute_mean_absolute_error"]


def mean_absolute_error(maps: Maps) -> Tensor:
    """Mean absolute error of N maps, (N,): what is missing in the foreground, and what is too much outside."""
    counts, sums = maps.counts.sum(1), maps.sums.sum(1)
    return (counts[:, 1] - sums[:, 1] + sums[:, 0]) / counts.sum(1)


class MeanAbsoluteErrorMetric(MapMetric):
    """Mean absolute difference of map and truth (Perazzi et al., CVPR 2012).

    Lower is better, 0 to 1. Equal to PySODMetrics' ``MAE``. MONAI's ``MAEMetric`` is the same for maps that are not
    scaled and truths that are binary.

    Args:
        empty_truth: ``"score"``: without object it is the map's mean; or ``"ignore"``: such images are left out (NaN).
        normalize: whether each map is scaled by its lowest and highest value first, as the papers' tools do.
        reduction: MONAI's: ``"mean"``, ``"mean_batch"`` (one value a channel), ``"none"`` ...
        get_not_nans: whether ``aggregate`` returns the number of maps counted, too.

    Raises:
        ConfigError: When an option is not one of these.

    Example:
        >>> import torch
        >>> metric = MeanAbsoluteErrorMetric(normalize=False)
        >>> truth = torch.zeros(2, 1, 64, 64)
        >>> truth[:, :, 16:48, 16:48] = 1
        >>> metric(0.8 * truth, truth).shape  # one value for each image and channel
        torch.Size([2, 1])
        >>> round(metric.aggregate().item(), 3)  # a fifth on a quarter of the image
        0.05
    """

    defined_for_empty = True

    def __init__(
        self,
        empty_truth: EmptyTruth = "score",
        normalize: bool = True,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
    ) -> None:
        super().__init__(empty_truth, normalize, reduction, get_not_nans)

    def scores_of(self, maps: Maps) -> Tensor:
        """Mean absolute error of N maps, (N,)."""
        return mean_absolute_error(maps)


def compute_mean_absolute_error(
    y_pred: Tensor, y: Tensor, empty_truth: EmptyTruth = "score", normalize: bool = True
) -> Tensor:
    """Mean absolute error of each map; see :class:`MeanAbsoluteErrorMetric`.

    Args:
        y_pred: maps (B, C, H, W): ``uint8`` levels 0 to 255, ``bool``, or floating point in [0, 1].
        y: truths of the same shape, in [0, 1].
        empty_truth: as in :class:`MeanAbsoluteErrorMetric`.
        normalize: as in :class:`MeanAbsoluteErrorMetric`.

    Returns:
        One value for each map, (B, C), float64; NaN where it is not counted.

    Raises:
        ConfigError: When an option is not allowed.
        DataError: When shapes, types or values are not as said.
    """
    return MeanAbsoluteErrorMetric(empty_truth, normalize).score_batch(y_pred, y)
