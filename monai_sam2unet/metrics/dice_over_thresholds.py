# SPDX-License-Identifier: Apache-2.0
"""Dice of prediction maps at many thresholds."""

from __future__ import annotations

from torch import Tensor

from monai_sam2unet.metrics.empty_truth import EmptyTruth
from monai_sam2unet.metrics.map_metric import Mode, ThresholdMetric
from monai_sam2unet.metrics.threshold_counts import ThresholdCounts

__all__ = ["DiceOverThresholdsMetric", "compute_dice_over_thresholds"]


class DiceOverThresholdsMetric(ThresholdMetric):
    """Dice of maps cut at thresholds; with ``mode="mean"`` the papers' mDice.

    Higher is better, at most 1. The mean over thresholds depends on how sharp a map is as well as on its shape: one and
    the same shape may have 0.6 or 0.99. Equal to PySODMetrics' ``DICEHandler``. For masks use MONAI's ``DiceMetric``.

    Args:
        mode: ``"mean"`` or ``"max"`` over the 256 thresholds of a map in 8 bits (``"max"``: of the mean curve over all
            images), ``"adaptive"``: at twice the map's mean, 1 at most, or ``"fixed"``: at ``threshold``.
        threshold: for ``"fixed"``, in [0, 1]: values above it are predicted, as PySODMetrics has it, not those at it.
        empty_truth: what 0/0 counts, where there is no object and nothing is predicted: 0 (PySODMetrics and the papers)
            or 1; or ``"ignore"``: images without object are left out (NaN).
        normalize: whether each map is scaled by its lowest and highest value first, as the papers' tools do.
        reduction: MONAI's: ``"mean"``, ``"mean_batch"`` (one value a channel), ``"none"`` ...
        get_not_nans: whether ``aggregate`` returns the number of maps counted, too.

    Raises:
        ConfigError: When an option is not one of these, or the threshold lies outside [0, 1].

    Example:
        >>> import torch
        >>> metric = DiceOverThresholdsMetric()
        >>> truth = torch.zeros(2, 1, 64, 64)
        >>> truth[:, :, 16:48, 16:48] = 1
        >>> metric(0.9 * truth, truth).shape  # one value for each image, channel and threshold
        torch.Size([2, 1, 256])
        >>> round(metric.aggregate().item(), 3)
        0.998
    """

    def score_at(self, counts: ThresholdCounts) -> Tensor:
        """Dice at each threshold of the counts."""
        return counts.dice(self.nothing)


def compute_dice_over_thresholds(
    y_pred: Tensor,
    y: Tensor,
    mode: Mode = "mean",
    threshold: float = 0.5,
    empty_truth: EmptyTruth = 0,
    normalize: bool = True,
) -> Tensor:
    """Dice of each map; see :class:`DiceOverThresholdsMetric`.

    Args:
        y_pred: maps (B, C, H, W): ``uint8`` levels 0 to 255, ``bool``, or floating point in [0, 1].
        y: truths of the same shape, in [0, 1].
        mode: as in :class:`DiceOverThresholdsMetric`; ``"max"`` takes the batch for the set.
        threshold: as in :class:`DiceOverThresholdsMetric`.
        empty_truth: as in :class:`DiceOverThresholdsMetric`.
        normalize: as in :class:`DiceOverThresholdsMetric`.

    Returns:
        One value for each map, (B, C), float64; NaN where it is not counted.

    Raises:
        ConfigError: When an option is not allowed, or the threshold lies outside [0, 1].
        DataError: When shapes, types or values are not as said.
    """
    return DiceOverThresholdsMetric(mode, threshold, empty_truth, normalize).score_batch(y_pred, y)
