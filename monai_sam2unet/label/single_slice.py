# SPDX-License-Identifier: Apache-2.0
"""Masks of pictures that viewers of volumes, as 3D Slicer, save as a volume of one slice."""

from __future__ import annotations

from typing import cast

from monai.data import MetaTensor

__all__ = ["as_picture"]


def as_picture(values: MetaTensor) -> MetaTensor:
    """A volume of one slice as the picture that it is of; anything else as it is.

    Args:
        values: (C, columns, rows, 1) of such a volume.

    Returns:
        (C, rows, columns).

    Example:
        >>> tuple(as_picture(MetaTensor([[[[1], [2], [3]]]])).shape)
        (1, 3, 1)
    """
    if values.ndim == 4 and values.shape[-1] == 1:
        return cast(MetaTensor, values[..., 0].transpose(1, 2))
    return values
