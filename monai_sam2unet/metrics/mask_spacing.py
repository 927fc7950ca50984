# SPDX-License-Identifier: Apache-2.0
"""The distance of neighbouring pixels of each image in a batch, in mm or in pixels; never guessed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from monai.data import MetaTensor, decollate_batch
from monai.utils.enums import MetaKeys
from torch import Tensor

from monai_sam2unet.errors import ConfigError, DataError

__all__ = ["UNITS", "image_spacings"]

UNITS = ("mm", "pixels")


def _known_spacing(image: MetaTensor, axes: int) -> tuple[float, ...] | None:
    """Mm along the last axes of one image, or None where its meta do not say."""
    affine = np.asarray(image.affine.detach().cpu(), dtype=np.float64)
    # Without a reader's note that the affine is the file's own, the identity is MONAI's placeholder, and an image that
    # was resized or cropped may carry a placeholder that the transforms have changed.
    if MetaKeys.ORIGINAL_AFFINE not in image.meta and (
        np.array_equal(affine, np.eye(len(affine))) or image.applied_operations
    ):
        return None
    # This project's DICOM reader: empty is a picture; unknown is a lone slice, without a distance to the next.
    source = image.meta.get("spacing_source")
    if source == "" or (source == "unknown" and axes == 3):
        return None
    spacing = np.linalg.norm(affine[:-1, :-1], axis=0)[:axes]
    if len(spacing) < axes or not (np.isfinite(spacing).all() and (spacing > 0).all()):
        return None
    return tuple(float(s) for s in spacing)


def _known_spacings(batch: Tensor) -> list[tuple[float, ...] | None]:
    axes = batch.ndim - 2
    if not isinstance(batch, MetaTensor):
        return [None] * len(batch)
    if batch.is_batch:
        return [_known_spacing(image, axes) for image in decollate_batch(batch)]
    return [_known_spacing(batch, axes)] * len(batch)


def _given(spacing: float | Sequence[float], axes: int) -> tuple[float, ...]:
    values = np.asarray(spacing, dtype=np.float64)
    if values.shape not in ((), (axes,)) or not np.isfinite(values).all() or values.min() <= 0:
        raise ConfigError(f"spacing must be a positive number of mm, or one for each of {axes} axes, not {spacing!r}.")
    return tuple(float(s) for s in np.broadcast_to(values, axes))


def image_spacings(
    y_pred: Tensor, y: Tensor, unit: str, spacing: float | Sequence[float] | None = None
) -> list[tuple[float, ...]]:
    """Distance from pixel to pixel along each axis of each image.

    In mm it is the one given, or that of the affine of the truth or of the prediction. Their affine counts as known
    where a reader noted that it is the file's own (MONAI's ``original_affine`` in the meta), or where a MetaTensor was
    made with one that is not the identity and went through no transform since.

    Args:
        y_pred: predictions (B, C, H, W) or (B, C, X, Y, Z).
        y: truth, of the same shape.
        unit: ``"mm"``, or ``"pixels"``: 1 along each axis.
        spacing: mm, one number or one for each axis, for all images; instead of what the affine says.

    Returns:
        For each image, one number an axis.

    Raises:
        ConfigError: When the unit is another, a spacing is not positive or not one for each axis, or it is given
            although the unit is pixels.
        DataError: When the unit is mm and an image has no known spacing, or prediction and truth have different ones.

    Example:
        >>> import torch
        >>> truth = MetaTensor(torch.zeros(1, 1, 4, 4), affine=torch.diag(torch.tensor([0.5, 2.0, 3.0, 1.0])))
        >>> image_spacings(torch.zeros(1, 1, 4, 4), truth, "mm"), image_spacings(truth, truth, "pixels")
        ([(0.5, 2.0)], [(1.0, 1.0)])
    """
    axes = y.ndim - 2
    if unit not in UNITS:
        raise ConfigError(f"unit must be one of {', '.join(UNITS)}, got {unit!r}.")
    if unit == "pixels":
        if spacing is not None:
            raise ConfigError("spacing is in mm: give it with unit='mm', or leave it out for pixels.")
        return [(1.0,) * axes] * len(y)
    if spacing is not None:
        return [_given(spacing, axes)] * len(y)
    found: list[tuple[float, ...]] = []
    for of_pred, of_truth in zip(_known_spacings(y_pred), _known_spacings(y), strict=True):
        known = of_truth or of_pred
        if known is None:
            raise DataError(
                "A distance in mm needs the size of a pixel, and neither prediction nor truth says it: they are plain "
                "tensors, or pictures without spacing. Use unit='pixels', load with a reader that keeps the affine, "
                "set it (and meta['original_affine']), or call the metric with spacing=."
            )
        if of_pred and not all(math.isclose(a, b, rel_tol=1e-3) for a, b in zip(of_pred, known, strict=True)):
            raise DataError(
                f"The prediction's pixels are {of_pred} mm, the truth's {known} mm, but both have the same shape: one "
                "of the two affines is wrong. Mend it, or call the metric with spacing=."
            )
        found.append(known)
    return found
