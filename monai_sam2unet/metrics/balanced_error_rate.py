# SPDX-License-Identifier: Apache-2.0
"""Balanced error rate of prediction maps."""

from __future__ import annotations

from monai.utils import MetricReduction
from torch import Tensor

from monai_sam2unet.metrics.empty_truth import EmptyTruth
from monai_sam2unet.metrics.map_metric import Mode, ThresholdMetric
from monai_sam2unet.metrics.threshold_counts import ThresholdCounts

__all__ = ["BalancedErrorRateMetric", "compute_balanced_error_rate"]


class BalancedErrorRateMetric(ThresholdMetric):
    """Balanced error rate: one minus the mean of sensitivity and specificity, of each image.

    Lower is better, 0 at best, 0.5 for guessing. With ``mode="max"`` it is taken at the threshold with the lowest rate.
    Equal to PySODMetrics' ``BERHandler``; papers on mirrors and shadows give it in percent.
    The column ``balanced_error_rate`` of evaluations is another: of the probabilities at a threshold, without scaling.

    Args:
        mode: ``"mean"`` or ``"max"`` over the 256 thresholds of a map in 8 bits (``"max"``: of the mean curve over all
            images), ``"adaptive"``: at twice the map's mean, 1 at most, or ``"fixed"``: at ``threshold``.
        threshold: for ``"fixed"``, in [0, 1]: values above it are predicted, as PySODMetrics has it, not those at it.
        empty_truth: what 0/0 counts, for the sensitivity without object and the specificity without background: 0
            (PySODMetrics) or 1; or ``"ignore"``: images without object are left out (NaN), and the specificity
            without background counts 0.
        normalize: whether each map is scaled by its lowest and highest value first, as the papers' tools do.
        reduction: MONAI's: ``"mean"``, ``"mean_batch"`` (one value a channel), ``"none"`` ...
        get_not_nans: whether ``aggregate`` returns the number of maps counted, too.

    Raises:
        ConfigError: When an option is not one of these, or the threshold lies outside [0, 1].

    Example:
        >>> import torch
        >>> metric = BalancedErrorRateMetric()
        >>> truth = torch.zeros(2, 1, 64, 64)
        >>> truth[:, :, 16:48, 16:48] = 1
        >>> metric(0.9 * truth, truth).shape  # one value for each image, channel
        torch.Size([2, 1])
        >>> round(metric.aggregate().item(), 3)
        0.0
    """

    lower_is_better = True

    def __init__(
        self,
        mode: Mode = "fixed",
        threshold: float = 0.5,
        empty_truth: EmptyTruth = 0,
        normalize: bool = True,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
    ) -> None:
        super().__init__(mode, threshold, empty_truth, normalize, reduction, get_not_nans)

    def score_at(self, counts: ThresholdCounts) -> Tensor:
        """Balanced error rate at each threshold of the counts."""
        return counts.balanced_error_rate(self.nothing)


def compute_balanced_error_rate(
    y_pred: Tensor,
    y: Tensor,
    mode: Mode = "fixed",
    threshold: float = 0.5,
    empty_truth: EmptyTruth = 0,
    normalize: bool = True,
) -> Tensor:
    """Balanced error rate of each map; see :class:`BalancedErrorRateMetric`.

    Args:
        y_pred: maps (B, C, H, W): ``uint8`` levels 0 to 255, ``bool``, or floating point in [0, 1].
        y: truths of the same shape, in [0, 1].
        mode: as in :class:`BalancedErrorRateMetric`; ``"max"`` takes the batch for the set.
        threshold: as in :class:`BalancedErrorRateMetric`.
        empty_truth: as in :class:`BalancedErrorRateMetric`.
        normalize: as in :class:`BalancedErrorRateMetric`.

    Returns:
        One value for each map, (B, C), float64; NaN where it is not counted.

    Raises:
        ConfigError: When an option is not allowed, or the threshold lies outside [0, 1].
        DataError: When shapes, types or values are not as said.
    """
    return BalancedErrorRateMetric(mode, threshold, empty_truth, normalize).score_batch(y_pred, y)
