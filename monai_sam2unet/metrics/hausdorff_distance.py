# SPDX-License-Identifier: Apache-2.0
"""The 95th percentile of the Hausdorff distance (HD95), through MONAI's own, with empty masks decided."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from monai.metrics import compute_hausdorff_distance
from monai.utils import MetricReduction
from torch import Tensor

from monai_sam2unet.metrics.case_metric import check_choice
from monai_sam2unet.metrics.mask_metric import MaskMetric, check_masks, quiet_monai
from monai_sam2unet.metrics.mask_spacing import UNITS, image_spacings

__all__ = ["HausdorffDistance95Metric", "compute_hausdorff_distance_95"]

ONE_EMPTY = ("diagonal", "ignore")


def compute_hausdorff_distance_95(
    y_pred: Tensor,
    y: Tensor,
    *,
    unit: str = "mm",
    one_empty: str = "diagonal",
    include_background: bool = False,
    spacing: float | Sequence[float] | None = None,
) -> Tensor:
    """95 % of the points on either outline are no farther than this from the other outline.

    It is the larger of two percentiles: that of the distances from the prediction's outline to the nearest point of the
    truth's, and that of the way back (MONAI, DeepMind's surface-distance). Tools that put both lists together and take
    one percentile (medpy) give smaller values. The outline is MONAI's: pixels of the mask with a neighbour, across an
    edge (a face in volumes), that is not in it; at the image's border the outside is not. Distances run from centre to
    centre, and percentiles between two points are interpolated.

    Where both masks are empty, the distance is 0. Where only one is, there is none: ``one_empty`` decides.

    Args:
        y_pred: predicted masks (B, C, H, W) or (B, C, X, Y, Z), binary.
        y: true masks, as ``y_pred``.
        unit: ``"mm"``, with the spacing of the MetaTensors' affine; or ``"pixels"``. See
            :func:`~monai_sam2unet.metrics.mask_spacing.image_spacings`. The axes are taken as perpendicular.
        one_empty: ``"diagonal"``: the image's diagonal, which is more than any distance in it; or ``"ignore"``: NaN.
        include_background: whether the first of several channels is measured.
        spacing: mm, one number or one for each axis, for all images; instead of what the affine says.

    Returns:
        (B, C without the background), float32, in the unit.

    Raises:
        ConfigError: When an option is none of these.
        DataError: When masks are not binary or differ in shape, or their spacing in mm is not known.

    Example:
        >>> truth = torch.zeros(1, 1, 30, 40)
        >>> truth[..., 5:10, 5:10] = 1
        >>> compute_hausdorff_distance_95(truth.roll(3, -1), truth, unit="pixels")
        tensor([[3.]])
        >>> compute_hausdorff_distance_95(torch.zeros_like(truth), truth, spacing=0.5)  # half of 50 pixels
        tensor([[25.]])
    """
    check_choice("one_empty", one_empty, ONE_EMPTY)
    pred, truth = check_masks(y_pred, y, include_background)
    spacings = image_spacings(y_pred, y, unit, spacing)
    in_pred, in_truth = pred.flatten(2).any(-1), truth.flatten(2).any(-1)
    distances = torch.zeros(pred.shape[:2], dtype=torch.float32, device=pred.device)
    for b, sizes in enumerate(spacings):
        diagonal = math.hypot(*(n * size for n, size in zip(pred.shape[2:], sizes, strict=True)))
        distances[b, in_pred[b] != in_truth[b]] = diagonal if one_empty == "diagonal" else math.nan
        both = in_pred[b] & in_truth[b]
        if both.any():
            pair = pred[b : b + 1, both], truth[b : b + 1, both]
            with quiet_monai():
                found = compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=sizes)
            distances[b, both] = found[0]
    return distances


class HausdorffDistance95Metric(MaskMetric):
    """Mean HD95 over images; see :func:`compute_hausdorff_distance_95`.

    Args:
        unit: ``"mm"`` or ``"pixels"``.
        one_empty: what counts where only prediction or truth is empty: ``"diagonal"``, or ``"ignore"``.
        include_background: whether the first of several channels is measured.
        reduction: one of MONAI's, over the values that are not NaN; NaN where all are.
        get_not_nans: whether ``aggregate`` also returns how many values were counted.

    Raises:
        ConfigError: When an option is none of these.

    Example:
        >>> metric = HausdorffDistance95Metric(unit="pixels")
        >>> truth = torch.zeros(1, 30, 40)
        >>> truth[:, 5:10, 5:10] = 1
        >>> _ = metric([truth.roll(2, -1)], [truth])
        >>> metric.aggregate()
        tensor([2.])
    """

    def __init__(
        self,
        unit: str = "mm",
        one_empty: str = "diagonal",
        include_background: bool = False,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
    ) -> None:
        super().__init__(include_background, reduction, get_not_nans)
        self.unit = check_choice("unit", unit, UNITS)
        self.one_empty = check_choice("one_empty", one_empty, ONE_EMPTY)

    def _compute_tensor(  # type: ignore[override]
        self, y_pred: Tensor, y: Tensor, spacing: float | Sequence[float] | None = None
    ) -> Tensor:
        return compute_hausdorff_distance_95(
            y_pred,
            y,
            unit=self.unit,
            one_empty=self.one_empty,
            include_background=self.include_background,
            spacing=spacing,
        )
