# SPDX-License-Identifier: Apache-2.0
"""How well the outline of a mask is met, within a tolerance: boundary precision, recall and F."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from monai.utils import MetricReduction
from torch import Tensor
from torch.nn import functional

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.metrics.case_metric import check_choice
from monai_sam2unet.metrics.mask_metric import MaskMetric, check_masks

__all__ = ["BoundaryFMeasureMetric", "BoundaryScores", "compute_boundary_scores"]

UNITS = ("diagonal", "pixels")
ONE_EMPTY = ("zero", "ignore")
ROUNDING = 1e-9  # pixels; a whole number that floats just miss is that number


class BoundaryScores(NamedTuple):
    """Of each channel of each image, (B, C), float32 in [0, 1].

    Attributes:
        f_measure: harmonic mean of precision and recall.
        precision: share of the predicted outline that lies within the tolerance of the true one.
        recall: share of the true outline that lies within the tolerance of the predicted one.
    """

    f_measure: Tensor
    precision: Tensor
    recall: Tensor


def _check_tolerance(tolerance: float, unit: str) -> None:
    check_choice("unit", unit, UNITS)
    highest = 1.0 if unit == "diagonal" else math.inf
    if not (math.isfinite(tolerance) and 0 <= tolerance <= highest):
        limits = "in [0, 1], a share of the image's diagonal" if unit == "diagonal" else "of at least 0 pixels"
        raise ConfigError(f"tolerance must be a number {limits}, got {tolerance!r}.")


def _outline(masks: Tensor) -> Tensor:
    """Pixels with a neighbour across an edge that is not in the mask; at the border the outside is not."""
    m = functional.pad(masks, (1, 1, 1, 1))
    inside = m[..., :-2, 1:-1] & m[..., 2:, 1:-1] & m[..., 1:-1, :-2] & m[..., 1:-1, 2:]
    return masks & ~inside


def _crop(points: Tensor) -> Tensor:
    """The smallest box that holds the points of all images; what is around it costs time only."""
    for axis in (-2, -1):
        held = points.transpose(axis, -1).flatten(0, -2).any(0).nonzero()
        if len(held) > 0:
            points = points.narrow(axis, int(held[0]), int(held[-1] - held[0]) + 1)
    return points


def _dilate(points: Tensor, radius: float) -> Tensor:
    """Pixels whose centre is no farther than the radius from a point's; points (N, H, W), bool."""
    height, width = points.shape[-2:]
    # A disk is a stack of rows: once each pixel knows how far the next point of its row is, one comparison a row does.
    columns = torch.arange(width, dtype=torch.int32, device=points.device)
    far = 2 * width + int(radius) + 1
    to_left = columns - columns.where(points, -far).cummax(-1).values
    to_right = columns.where(points, far).flip(-1).cummin(-1).values.flip(-1) - columns
    distance = torch.minimum(to_left, to_right)
    reached = torch.zeros_like(points)
    for dy in range(min(int(radius), height - 1) + 1):
        row = distance <= int(math.sqrt(radius * radius - dy * dy) + ROUNDING)
        reached[..., dy:, :] |= row[..., : height - dy, :]
        reached[..., : height - dy, :] |= row[..., dy:, :]
    return reached


def compute_boundary_scores(
    y_pred: Tensor,
    y: Tensor,
    *,
    tolerance: float = 0.008,
    unit: str = "diagonal",
    one_empty: str = "zero",
    include_background: bool = False,
) -> BoundaryScores:
    """Boundary precision, recall and F-measure of binary masks.

    The outline is MONAI's, as for HD95 and the normalised surface Dice: pixels of the mask with a neighbour across an
    edge that is not in it; at the image's border the outside is not. A point is met where the other outline has a
    pixel whose centre is no farther than the tolerance. (The DAVIS benchmark shares the tolerance but draws outlines
    between pixels, open at the border, so that its values differ a little.)

    Where both masks are empty, all three are 1. Where only one is, ``one_empty`` decides.

    Args:
        y_pred: predicted masks (B, C, H, W), binary.
        y: true masks, as ``y_pred``.
        tolerance: in the unit; 0 for the same pixels only.
        unit: ``"diagonal"``: a share of the image's diagonal, rounded up to whole pixels, as in DAVIS; or ``"pixels"``.
        one_empty: ``"zero"``: all three are 0; or ``"ignore"``: NaN.
        include_background: whether the first of several channels is measured.

    Returns:
        Three tensors (B, C without the background).

    Raises:
        ConfigError: When an option is none of these.
        DataError: When masks are not binary, differ in shape, or are volumes.

    Example:
        >>> truth = torch.zeros(1, 1, 30, 40)
        >>> truth[..., 5:10, 5:10] = 1
        >>> compute_boundary_scores(truth.roll(1, -1), truth, tolerance=0, unit="pixels").precision
        tensor([[0.5000]])
        >>> compute_boundary_scores(truth.roll(1, -1), truth).f_measure  # 0.4 pixels, rounded up to 1
        tensor([[1.]])
    """
    _check_tolerance(tolerance, unit)
    check_choice("one_empty", one_empty, ONE_EMPTY)
    pred, truth = check_masks(y_pred, y, include_background)
    if pred.ndim != 4:
        raise DataError(f"Boundary F is for images (B, C, H, W), got {tuple(y_pred.shape)}; for volumes take NSD.")
    diagonal = math.hypot(*pred.shape[2:])
    radius = math.ceil(tolerance * diagonal - ROUNDING) if unit == "diagonal" else min(tolerance, diagonal)
    outlines = _crop(torch.cat((_outline(pred), _outline(truth))).flatten(0, 1)).unflatten(0, (2, *pred.shape[:2]))
    near = _dilate(outlines.flatten(0, 2), radius).unflatten(0, outlines.shape[:3])
    lengths = outlines.flatten(3).sum(-1).float()
    met = (outlines & near.flip(0)).flatten(3).sum(-1).float()
    precision, recall = met / lengths.clamp_min(1)
    f_measure = 2 * precision * recall / (precision + recall).clamp_min(torch.finfo(torch.float32).tiny)

    neither, one = (lengths == 0).all(0), (lengths == 0).any(0)
    missed = 0.0 if one_empty == "zero" else math.nan
    return BoundaryScores(
        *(s.masked_fill(one, missed).masked_fill(neither, 1.0) for s in (f_measure, precision, recall))
    )


class BoundaryFMeasureMetric(MaskMetric):
    """Mean boundary F-measure over images; see :func:`compute_boundary_scores`.

    Args:
        tolerance: in the unit.
        unit: ``"diagonal"``, a share of the image's diagonal, or ``"pixels"``.
        one_empty: what counts where only prediction or truth is empty: ``"zero"``, or ``"ignore"``.
        include_background: whether the first of several channels is measured.
        reduction: one of MONAI's, over the values that are not NaN; NaN where all are.
        get_not_nans: whether ``aggregate`` also returns how many values were counted.

    Raises:
        ConfigError: When an option is none of these.

    Example:
        >>> metric = BoundaryFMeasureMetric(tolerance=2, unit="pixels")
        >>> truth = torch.zeros(1, 30, 40)
        >>> truth[:, 5:10, 5:10] = 1
        >>> _ = metric([truth.roll(2, -1)], [truth])
        >>> metric.aggregate()
        tensor([1.])
    """

    def __init__(
        self,
        tolerance: float = 0.008,
        unit: str = "diagonal",
        one_empty: str = "zero",
        include_background: bool = False,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
    ) -> None:
        super().__init__(include_background, reduction, get_not_nans)
        _check_tolerance(tolerance, unit)
        self.tolerance = tolerance
        self.unit = unit
        self.one_empty = check_choice("one_empty", one_empty, ONE_EMPTY)

    def _compute_tensor(self, y_pred: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
        return compute_boundary_scores(
            y_pred,
            y,
            tolerance=self.tolerance,
            unit=self.unit,
            one_empty=self.one_empty,
            include_background=self.include_background,
        ).f_measure
