# SPDX-License-Identifier: Apache-2.0
"""What all metrics of prediction maps share: one value a map, and for some one at each of 256 thresholds."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal

import torch
from monai.utils import MetricReduction
from torch import Tensor

from monai_sam2unet.errors import DataError
from monai_sam2unet.metrics.case_metric import CaseMetric, check_choice, check_share
from monai_sam2unet.metrics.empty_truth import EmptyTruth, check_empty_truth, without_empty
from monai_sam2unet.metrics.map_statistics import Maps, each_maps
from monai_sam2unet.metrics.threshold_counts import ThresholdCounts

__all__ = ["MapMetric", "Mode", "ThresholdMetric", "at_best_threshold"]

Mode = Literal["mean", "max", "adaptive", "fixed"]
MODES = ("mean", "max", "adaptive", "fixed")


def at_best_threshold(curves: Tensor, lowest: bool = False) -> Tensor:
    """The scores at the threshold that is best for the whole set.

    Args:
        curves: scores at each threshold, (N, C, thresholds); NaN is not counted.
        lowest: whether lower is better.

    Returns:
        (N, C). Their mean over N is the highest (lowest) of the mean curve.
    """
    mean = curves.nanmean(0).nan_to_num(0)
    best = mean.argmin(-1) if lowest else mean.argmax(-1)
    return curves.gather(2, best[None, :, None].expand(len(curves), -1, 1))[..., 0]


class MapMetric(CaseMetric):
    """Base of metrics that compare prediction maps with truths, map by map.

    Args:
        empty_truth: what a map without object counts; see the metric.
        normalize: whether each map is scaled by its lowest and highest value first, as the papers' tools do.
        reduction: MONAI's: ``"mean"``, ``"mean_batch"`` (one value a channel), ``"none"`` ...
        get_not_nans: whether ``aggregate`` returns the number of maps counted, too.
    """

    #: Whether the measure is defined without object, so that nothing has to be said of 0/0.
    defined_for_empty = False

    def __init__(
        self,
        empty_truth: EmptyTruth,
        normalize: bool,
        reduction: MetricReduction | str,
        get_not_nans: bool,
    ) -> None:
        super().__init__(reduction, get_not_nans)
        self.nothing = check_empty_truth(empty_truth, self.defined_for_empty)
        self.empty_truth = empty_truth
        self.normalize = normalize

    @abstractmethod
    def scores_of(self, maps: Maps) -> Tensor:
        """Scores of N maps: (N,), or (N, thresholds)."""

    def score_batch(self, y_pred: Tensor, y: Tensor) -> Tensor:
        """Score a batch without adding to what was gathered; (B, C), float64. See the metric's function."""
        return self.one_each(self._compute_tensor(y_pred, y))

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any) -> Tensor:
        if y is None:
            raise DataError(f"{type(self).__name__} compares maps with truths; the truth is missing.")
        scores = [
            without_empty(self.scores_of(maps), maps, self.empty_truth) for maps in each_maps(y_pred, y, self.normalize)
        ]
        return torch.cat(scores).unflatten(0, (y_pred.shape[0], y_pred.shape[1]))

    def one_each(self, scores: Tensor) -> Tensor:
        """One value for each map, (N, C), of what the metric keeps of it."""
        return scores

    def get_buffer(self) -> Tensor | None:
        """One value for each image and channel so far, (N, C), gathered from all processes; None before the first."""
        scores = super().get_buffer()
        return None if scores is None else self.one_each(scores)


class ThresholdMetric(MapMetric):
    """Base of metrics that compare binary masks, of maps cut at thresholds.

    Args:
        mode: ``"mean"`` or ``"max"`` over the 256 thresholds of a map in 8 bits, ``"max"`` of the mean curve over all
            images; ``"adaptive"``: at twice the map's mean, 1 at most; ``"fixed"``: at ``threshold``.
        threshold: for ``"fixed"``, in [0, 1]: values above it are predicted, as PySODMetrics has it, not those at it.
        empty_truth: what a map without object counts; see the metric.
        normalize: whether each map is scaled by its lowest and highest value first, as the papers' tools do.
        reduction: MONAI's: ``"mean"``, ``"mean_batch"`` (one value a channel), ``"none"`` ...
        get_not_nans: whether ``aggregate`` returns the number of maps counted, too.

    Raises:
        ConfigError: When the mode is not one of these, or the threshold lies outside [0, 1].
    """

    #: Whether the best threshold of a set is that of the lowest mean score.
    lower_is_better = False

    def __init__(
        self,
        mode: Mode = "mean",
        threshold: float = 0.5,
        empty_truth: EmptyTruth = 0,
        normalize: bool = True,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
    ) -> None:
        super().__init__(empty_truth, normalize, reduction, get_not_nans)
        check_choice("mode", mode, MODES)
        self.mode = mode
        self.threshold = check_share("threshold", threshold)

    @abstractmethod
    def score_at(self, counts: ThresholdCounts) -> Tensor:
        """The score, for each threshold that the counts are of."""

    def scores_of(self, maps: Maps) -> Tensor:
        """Scores of N maps: at all thresholds, (N, 256), or at the map's one, (N,)."""
        if self.mode in ("mean", "max"):
            return self.score_at(maps.at_levels())
        if self.mode == "adaptive":
            return self.score_at(maps.at(maps.adaptive_thresholds()))
        return self.score_at(maps.above(self.threshold))

    def one_each(self, scores: Tensor) -> Tensor:
        """The mean over thresholds, or the value at the threshold that is best for all of them; (N, C)."""
        if self.mode == "max":
            return at_best_threshold(scores, self.lower_is_better)
        return scores.mean(-1) if self.mode == "mean" else scores
