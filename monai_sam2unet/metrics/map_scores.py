# SPDX-License-Identifier: Apache-2.0
"""All scores of prediction maps in one pass."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from monai_sam2unet.metrics.case_metric import check_beta2, check_share
from monai_sam2unet.metrics.empty_truth import EmptyTruth, check_empty_truth, without_empty
from monai_sam2unet.metrics.map_statistics import Maps, each_maps
from monai_sam2unet.metrics.mean_absolute_error import mean_absolute_error
from monai_sam2unet.metrics.s_measure import s_measure
from monai_sam2unet.metrics.weighted_f_measure import weighted_f_measure

__all__ = ["MapScores", "compute_map_scores"]


@dataclass(frozen=True)
class MapScores:
    """Scores of N maps.

    Attributes:
        values: one score a map, (N,), float64, by name: ``s_measure``, ``weighted_f``, ``mae``, ``e_adaptive``,
            ``f_adaptive``, ``dice_adaptive``, ``iou_adaptive``, ``dice_fixed``, ``iou_fixed``, ``balanced_error_rate``
            (at the fixed threshold).
        curves: scores at the thresholds 0/255 to 255/255, (N, 256), float64, by name: ``e``, ``f``, ``dice``, ``iou``,
            ``precision``, ``recall``.
    """

    values: dict[str, Tensor]
    curves: dict[str, Tensor]


def _scores(maps: Maps, alpha: float, beta2: float, threshold: float, nothing: float) -> MapScores:
    curves = maps.at_levels()
    adaptive = maps.at(maps.adaptive_thresholds())
    fixed = maps.above(threshold)
    return MapScores(
        values={
            "s_measure": s_measure(maps, alpha),
            "weighted_f": weighted_f_measure(maps, 1.0, nothing),
            "mae": mean_absolute_error(maps),
            "e_adaptive": adaptive.e_measure(),
            "f_adaptive": adaptive.f_measure(beta2, nothing),
            "dice_adaptive": adaptive.dice(nothing),
            "iou_adaptive": adaptive.iou(nothing),
            "dice_fixed": fixed.dice(nothing),
            "iou_fixed": fixed.iou(nothing),
            "balanced_error_rate": fixed.balanced_error_rate(nothing),
        },
        curves={
            "e": curves.e_measure(),
            "f": curves.f_measure(beta2, nothing),
            "dice": curves.dice(nothing),
            "iou": curves.iou(nothing),
            "precision": curves.precision(nothing),
            "recall": curves.recall(nothing),
        },
    )


def compute_map_scores(
    y_pred: Tensor,
    y: Tensor,
    *,
    alpha: float = 0.5,
    beta2: float = 0.3,
    threshold: float = 0.5,
    empty_truth: EmptyTruth = 0,
    normalize: bool = True,
) -> MapScores:
    """Score maps by all measures of the papers at once, several times faster than one after another.

    Args:
        y_pred: maps (B, C, H, W): ``uint8`` levels 0 to 255, ``bool``, or floating point in [0, 1].
        y: truths of the same shape, in [0, 1].
        alpha: of the S-measure.
        beta2: of the F-measure; the weighted one has 1.
        threshold: the fixed one, in [0, 1]: values above it are predicted.
        empty_truth: what 0/0 counts in F, Dice, IoU, weighted F and the balanced error rate, where there is no object
            and nothing is predicted: 0 (PySODMetrics and the papers) or 1; ``"ignore"``: images without object are NaN
            in every score.
        normalize: whether each map is scaled by its lowest and highest value first, as the papers' tools do.

    Returns:
        Scores of the B * C maps.

    Raises:
        ConfigError: When ``empty_truth`` is not allowed, alpha or threshold lie outside [0, 1], or beta2 is not above
            0.
        DataError: When shapes, types or values are not as said.

    Example:
        >>> truth = torch.zeros(2, 1, 64, 64)
        >>> truth[:, :, 16:48, 16:48] = 1
        >>> scores = compute_map_scores(0.9 * truth, truth)
        >>> scores.values["s_measure"].shape, scores.curves["dice"].shape
        (torch.Size([2]), torch.Size([2, 256]))
    """
    nothing = check_empty_truth(empty_truth, defined=False)
    check_share("alpha", alpha)
    check_share("threshold", threshold)
    check_beta2(beta2)
    values: dict[str, list[Tensor]] = {}
    curves: dict[str, list[Tensor]] = {}
    for maps in each_maps(y_pred, y, normalize):
        scores = _scores(maps, alpha, beta2, threshold, nothing)
        for gathered, new in ((values, scores.values), (curves, scores.curves)):
            for name, score in new.items():
                gathered.setdefault(name, []).append(without_empty(score, maps, empty_truth))
    return MapScores(*({name: torch.cat(parts) for name, parts in d.items()} for d in (values, curves)))
