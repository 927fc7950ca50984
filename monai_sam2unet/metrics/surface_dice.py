# SPDX-License-Identifier: Apache-2.0
"""Normalised surface Dice (NSD) at a tolerance in mm or pixels, through MONAI's own, with empty masks decided."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from monai.metrics import compute_surface_dice
from monai.utils import MetricReduction
from torch import Tensor

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.metrics.case_metric import check_choice
from monai_sam2unet.metrics.mask_metric import MaskMetric, check_masks, quiet_monai
from monai_sam2unet.metrics.mask_spacing import UNITS, image_spacings

__all__ = ["NormalizedSurfaceDiceMetric", "compute_normalized_surface_dice"]

ONE_EMPTY = ("zero", "ignore")


def _tolerances(tolerance: float | Sequence[float], channels: int | None = None) -> list[float]:
    """One tolerance for each channel, or those given where the channels are not known yet."""
    given = np.atleast_1d(np.asarray(tolerance, dtype=np.float64))
    if given.ndim > 1 or len(given) == 0 or not np.isfinite(given).all() or given.min() < 0:
        raise ConfigError(f"tolerance must be a number of at least 0, or one for each channel, got {tolerance!r}.")
    if channels is not None and len(given) not in (1, channels):
        raise ConfigError(
            f"tolerance has {len(given)} values for {channels} measured channels. Give one for each, without one for "
            "the background unless include_background is set, or a single one."
        )
    return [float(t) for t in (given if channels is None else np.broadcast_to(given, channels))]


def compute_normalized_surface_dice(
    y_pred: Tensor,
    y: Tensor,
    tolerance: float | Sequence[float],
    *,
    unit: str = "mm",
    one_empty: str = "zero",
    include_background: bool = False,
    spacing: float | Sequence[float] | None = None,
) -> Tensor:
    """Share of both outlines that lies no farther than the tolerance from the other one.

    The outline is that of :func:`~monai_sam2unet.metrics.hausdorff_distance.compute_hausdorff_distance_95`. As in
    MONAI, its length is the number of its pixels; DeepMind's surface-distance weighs them by length, so that its values
    differ somewhat.

    Where both masks are empty, it is 1. Where only one is, ``one_empty`` decides.

    Args:
        y_pred: predicted masks (B, C, H, W) or (B, C, X, Y, Z), binary.
        y: true masks, as ``y_pred``.
        tolerance: in the unit, at least 0; one number, or one for each measured channel. A distance of exactly the
            tolerance is within it.
        unit: ``"mm"``, with the spacing of the MetaTensors' affine; or ``"pixels"``. See
            :func:`~monai_sam2unet.metrics.mask_spacing.image_spacings`. The axes are taken as perpendicular.
        one_empty: ``"zero"``: 0; or ``"ignore"``: NaN.
        include_background: whether the first of several channels is measured.
        spacing: mm, one number or one for each axis, for all images; instead of what the affine says.

    Returns:
        (B, C without the background), float32 in [0, 1].

    Raises:
        ConfigError: When an option is none of these, or the tolerances do not fit the channels.
        DataError: When masks are not binary or differ in shape, or their spacing in mm is not known.

    Example:
        >>> truth = torch.zeros(1, 1, 30, 40)
        >>> truth[..., 5:10, 5:10] = 1
        >>> compute_normalized_surface_dice(truth.roll(1, -1), truth, 1, unit="pixels")
        tensor([[1.]])
        >>> compute_normalized_surface_dice(truth.roll(1, -1), truth, 1, spacing=2.5)  # 8 of 16 pixels in common
        tensor([[0.5000]])
    """
    check_choice("one_empty", one_empty, ONE_EMPTY)
    pred, truth = check_masks(y_pred, y, include_background)
    tolerances = _tolerances(tolerance, pred.shape[1])
    spacings = image_spacings(y_pred, y, unit, spacing)
    in_pred, in_truth = pred.flatten(2).any(-1), truth.flatten(2).any(-1)
    scores = torch.ones(pred.shape[:2], dtype=torch.float32, device=pred.device)
    for b, sizes in enumerate(spacings):
        scores[b, in_pred[b] != in_truth[b]] = 0.0 if one_empty == "zero" else math.nan
        both = in_pred[b] & in_truth[b]
        if both.any():
            pair = pred[b : b + 1, both], truth[b : b + 1, both]
            own = [t for t, counts in zip(tolerances, both.tolist(), strict=True) if counts]
            with quiet_monai():
                found = compute_surface_dice(*pair, class_thresholds=own, include_background=True, spacing=sizes)
            scores[b, both] = found[0]
    return scores


class NormalizedSurfaceDiceMetric(MaskMetric):
    """Mean NSD over images; see :func:`compute_normalized_surface_dice`.

    Args:
        tolerance: in the unit; one number, or one for each measured channel.
        unit: ``"mm"`` or ``"pixels"``.
        one_empty: what counts where only prediction or truth is empty: ``"zero"``, or ``"ignore"``.
        include_background: whether the first of several channels is measured.
        reduction: one of MONAI's, over the values that are not NaN; NaN where all are.
        get_not_nans: whether ``aggregate`` also returns how many values were counted.

    Raises:
        ConfigError: When an option is none of these.

    Example:
        >>> metric = NormalizedSurfaceDiceMetric(tolerance=2, unit="pixels")
        >>> truth = torch.zeros(1, 30, 40)
        >>> truth[:, 5:10, 5:10] = 1
        >>> _ = metric([truth.roll(2, -1)], [truth])
        >>> metric.aggregate()
        tensor([1.])
    """

    def __init__(
        self,
        tolerance: float | Sequence[float],
        unit: str = "mm",
        one_empty: str = "zero",
        include_background: bool = False,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
    ) -> None:
        super().__init__(include_background, reduction, get_not_nans)
        _tolerances(tolerance)
        self.tolerance = tolerance
        self.unit = check_choice("unit", unit, UNITS)
        self.one_empty = check_choice("one_empty", one_empty, ONE_EMPTY)

    def _compute_tensor(  # type: ignore[override]
        self, y_pred: Tensor, y: Tensor, spacing: float | Sequence[float] | None = None
    ) -> Tensor:
        return compute_normalized_surface_dice(
            y_pred,
            y,
            self.tolerance,
            unit=self.unit,
            one_empty=self.one_empty,
            include_background=self.include_background,
            spacing=spacing,
        )
