# SPDX-License-Identifier: Apache-2.0
"""F-measure of prediction maps."""

from __future__ import annotations

from monai.utils import MetricReduction
from torch import Tensor

from monai_sam2unet.metrics.case_metric import check_beta2
from monai_sam2unet.metrics.empty_truth import EmptyTruth
from monai_sam2unet.metrics.map_metric import Mode, ThresholdMetric
from monai_sam2unet.metrics.threshold_counts import ThresholdCounts

__all__ = ["FMeasureMetric", "compute_f_measure"]


class FMeasureMetric(ThresholdMetric):
    """F-measure, ``(1 + beta2) P R / (beta2 P + R)`` (Achanta et al., CVPR 2009).

    Higher is better, at most 1. Equal to PySODMetrics' ``FmeasureHandler``.

    Args:
        mode: ``"mean"`` or ``"max"`` over the 256 thresholds of a map in 8 bits (``"max"``: of the mean curve over all
            images), ``"adaptive"``: at twice the map's mean, 1 at most, or ``"fixed"``: at ``threshold``.
        beta2: weight of precision against recall, squared; the papers: 0.3.
        threshold: for ``"fixed"``, in [0, 1]: values above it are predicted, as PySODMetrics has it, not those at it.
        empty_truth: what 0/0 counts, where there is no object and nothing is predicted: 0 (PySODMetrics and the papers)
            or 1; or ``"ignore"``: images without object are left out (NaN).
        normalize: whether each map is scaled by its lowest and highest value first, as the papers' tools do.
        reduction: MONAI's: ``"mean"``, ``"mean_batch"`` (one value a channel), ``"none"`` ...
        get_not_nans: whether ``aggregate`` returns the number of maps counted, too.

    Raises:
        ConfigError: When an option is not one of these, the threshold lies outside [0, 1], or beta2 is not
            above 0.

    Example:
        >>> import torch
        >>> metric = FMeasureMetric()
        >>> truth = torch.zeros(2, 1, 64, 64)
        >>> truth[:, :, 16:48, 16:48] = 1
        >>> metric(0.9 * truth, truth).shape  # one value for each image, channel and threshold
        torch.Size([2, 1, 256])
        >>> round(metric.aggregate().item(), 3)
        0.997
    """

    def __init__(
        self,
        mode: Mode = "mean",
        beta2: float = 0.3,
        threshold: float = 0.5,
        empty_truth: EmptyTruth = 0,
        normalize: bool = True,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
    ) -> None:
        super().__init__(mode, threshold, empty_truth, normalize, reduction, get_not_nans)
        self.beta2 = check_beta2(beta2)

    def score_at(self, counts: ThresholdCounts) -> Tensor:
        """F at each threshold of the counts."""
        return counts.f_measure(self.beta2, self.nothing)


def compute_f_measure(
    y_pred: Tensor,
    y: Tensor,
    mode: Mode = "mean",
    beta2: float = 0.3,
    threshold: float = 0.5,
    empty_truth: EmptyTruth = 0,
    normalize: bool = True,
) -> Tensor:
    """F-measure of each map; see :class:`FMeasureMetric`.

    Args:
        y_pred: maps (B, C, H, W): ``uint8`` levels 0 to 255, ``bool``, or floating point in [0, 1].
        y: truths of the same shape, in [0, 1].
        mode: as in :class:`FMeasureMetric`; ``"max"`` takes the batch for the set.
        beta2: weight of precision against recall, squared; the papers: 0.3.
        threshold: as in :class:`FMeasureMetric`.
        empty_truth: as in :class:`FMeasureMetric`.
        normalize: as in :class:`FMeasureMetric`.

    Returns:
        One value for each map, (B, C), float64; NaN where it is not counted.

    Raises:
        ConfigError: When an option is not allowed, the threshold lies outside [0, 1], or beta2 is not above 0.
        DataError: When shapes, types or values are not as said.
    """
    return FMeasureMetric(mode, beta2, threshold, empty_truth, normalize).score_batch(y_pred, y)
