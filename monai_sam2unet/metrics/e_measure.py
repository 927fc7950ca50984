# SPDX-License-Identifier: Apache-2.0
"""E-measure of prediction maps."""

from __future__ import annotations

from monai.utils import MetricReduction
from torch import Tensor

from monai_sam2unet.metrics.empty_truth import EmptyTruth
from monai_sam2unet.metrics.map_metric import Mode, ThresholdMetric
from monai_sam2unet.metrics.threshold_counts import ThresholdCounts

__all__ = ["EMeasureMetric", "compute_e_measure"]


class EMeasureMetric(ThresholdMetric):
    """Enhanced-alignment measure (Fan et al., IJCAI 2018).

    Higher is better. The sum over pixels is divided by one less than their number, as in the authors' code, so that a
    perfect map has slightly more than 1. Equal to PySODMetrics' ``Emeasure``, but for maps of a single pixel: theirs
    divides by 2e-16, ours by 1.

    Args:
        mode: ``"mean"`` or ``"max"`` over the 256 thresholds of a map in 8 bits (``"max"``: of the mean curve over all
            images), ``"adaptive"``: at twice the map's mean, 1 at most, or ``"fixed"``: at ``threshold``.
        threshold: for ``"fixed"``, in [0, 1]: values above it are predicted, as PySODMetrics has it, not those at it.
        empty_truth: ``"score"``: without object E is the share of pixels predicted as background; or ``"ignore"``: such
            images are left out (NaN).
        normalize: whether each map is scaled by its lowest and highest value first, as the papers' tools do.
        reduction: MONAI's: ``"mean"``, ``"mean_batch"`` (one value a channel), ``"none"`` ...
        get_not_nans: whether ``aggregate`` returns the number of maps counted, too.

    Raises:
        ConfigError: When an option is not one of these, or the threshold lies outside [0, 1].

    Example:
        >>> import torch
        >>> metric = EMeasureMetric()
        >>> truth = torch.zeros(2, 1, 64, 64)
        >>> truth[:, :, 16:48, 16:48] = 1
        >>> metric(0.9 * truth, truth).shape  # one value for each image, channel and threshold
        torch.Size([2, 1, 256])
        >>> round(metric.aggregate().item(), 3)
        0.997
    """

    defined_for_empty = True

    def __init__(
        self,
        mode: Mode = "mean",
        threshold: float = 0.5,
        empty_truth: EmptyTruth = "score",
        normalize: bool = True,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
    ) -> None:
        super().__init__(mode, threshold, empty_truth, normalize, reduction, get_not_nans)

    def score_at(self, counts: ThresholdCounts) -> Tensor:
        """E at each threshold of the counts."""
        return counts.e_measure()


def compute_e_measure(
    y_pred: Tensor,
    y: Tensor,
    mode: Mode = "mean",
    threshold: float = 0.5,
    empty_truth: EmptyTruth = "score",
    normalize: bool = True,
) -> Tensor:
    """E-measure of each map; see :class:`EMeasureMetric`.

    Args:
        y_pred: maps (B, C, H, W): ``uint8`` levels 0 to 255, ``bool``, or floating point in [0, 1].
        y: truths of the same shape, in [0, 1].
        mode: as in :class:`EMeasureMetric`; ``"max"`` takes the batch for the set.
        threshold: as in :class:`EMeasureMetric`.
        empty_truth: as in :class:`EMeasureMetric`.
        normalize: as in :class:`EMeasureMetric`.

    Returns:
        One value for each map, (B, C), float64; NaN where it is not counted.

    Raises:
        ConfigError: When an option is not allowed, or the threshold lies outside [0, 1].
        DataError: When shapes, types or values are not as said.
    """
    return EMeasureMetric(mode, threshold, empty_truth, normalize).score_batch(y_pred, y)
