# SPDX-License-Identifier: Apache-2.0
"""Counts of true and false positives, and what is made of them: precision, recall, F, Dice, IoU, balanced error, E."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["ThresholdCounts"]


def _ratio(numerator: Tensor, denominator: Tensor, nothing: float) -> Tensor:
    """The ratio, and ``nothing`` where both are 0."""
    return torch.where(denominator > 0, numerator / denominator.clamp(min=torch.finfo(denominator.dtype).tiny), nothing)


@dataclass(frozen=True)
class ThresholdCounts:
    """Pixels of maps at or above a threshold, or each of several.

    Attributes:
        true_positives: foreground pixels at or above, (N,) or (N, thresholds), floating point.
        false_positives: background pixels at or above, the same shape.
        foreground: all foreground pixels, (N,) or (N, 1).
        background: all background pixels, (N,) or (N, 1).
    """

    true_positives: Tensor
    false_positives: Tensor
    foreground: Tensor
    background: Tensor

    def precision(self, nothing: float = 0.0) -> Tensor:
        """Share of the predicted pixels that are foreground; ``nothing`` where none is predicted."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives, nothing)

    def recall(self, nothing: float = 0.0) -> Tensor:
        """Share of the foreground that is predicted; ``nothing`` where there is no foreground."""
        return _ratio(self.true_positives, self.foreground.expand_as(self.true_positives), nothing)

    def f_measure(self, beta2: float, nothing: float = 0.0) -> Tensor:
        """``(1 + beta2) P R / (beta2 P + R)``; ``nothing`` where there is no foreground and none is predicted."""
        # (1 + b) TP / (TP + FP + b * foreground) is the same, and defined wherever the one or the other is.
        predicted = self.true_positives + self.false_positives
        return _ratio((1 + beta2) * self.true_positives, predicted + beta2 * self.foreground, nothing)

    def dice(self, nothing: float = 0.0) -> Tensor:
        """Dice; ``nothing`` where there is no foreground and none is predicted."""
        return self.f_measure(1.0, nothing)

    def iou(self, nothing: float = 0.0) -> Tensor:
        """Intersection over union; ``nothing`` where there is no foreground and none is predicted."""
        return _ratio(self.true_positives, self.foreground + self.false_positives, nothing)

    def balanced_error_rate(self, nothing: float = 0.0) -> Tensor:
        """One minus the mean of sensitivity and specificity; either counts ``nothing`` where it is 0/0."""
        true_negatives = self.background - self.false_positives
        specificity = _ratio(true_negatives, self.background.expand_as(true_negatives), nothing)
        return 1 - (self.recall(nothing) + specificity) / 2

    def e_measure(self) -> Tensor:
        """The enhanced-alignment measure of the binary maps: 0.25 for the worst, about 1 for the best.

        Fan et al., IJCAI 2018, eq. 3 to 6. The sum is divided by one less than the number of pixels, as in the authors'
        code (by 1 for a single pixel). Without foreground, or without background, it is the share of pixels predicted
        rightly, over the same number.
        """
        foreground, background = self.foreground, self.background
        pixels = foreground + background
        hits, alarms = self.true_positives, self.false_positives
        mean_pred, mean_truth = (hits + alarms) / pixels, foreground / pixels
        total = torch.zeros_like(hits)
        misses = foreground - hits
        for count, pred, truth in (
            (hits, 1, 1),
            (alarms, 1, 0),
            (misses, 0, 1),
            (background - alarms, 0, 0),
        ):
            a, b = pred - mean_pred, truth - mean_truth
            alignment = _ratio(2 * a * b, (a * a + b * b).expand_as(total), 0.0)
            total = total + count * (alignment + 1).square() / 4
        total = torch.where(foreground == 0, background - alarms, total)
        total = torch.where(background == 0, hits, total)
        return total / (pixels - 1).clamp(min=1)
