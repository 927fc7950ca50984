# SPDX-License-Identifier: Apache-2.0
"""What the pixels of picture files are read as: colours, gray, or labels, upright."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageOps

from monai_sam2unet.errors import DataError

__all__ = ["PICTURES", "to_deep_gray", "to_gray", "to_label", "to_rgb", "to_shown"]

EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")
DEEP_MODES = ("I", "I;16", "I;16L", "I;16B", "F")


def _upright(image: Image.Image) -> Image.Image:
    """Turn a photograph as its camera says (EXIF orientation), for that is how it was shown and annotated."""
    pages = getattr(image, "n_frames", 1)
    if pages > 1:
        raise DataError(f"it has {pages} pages or frames; save the one that is meant by itself")
    return ImageOps.exif_transpose(image)


def _of_eight_bits(image: Image.Image) -> Image.Image:
    if image.mode not in EIGHT_BIT_MODES:
        raise DataError(f"Images of 8 bits a channel are expected, this one has the mode {image.mode}: convert it.")
    return _upright(image)


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an opened image to upright RGB, 8 bits a channel; a ``converter`` for MONAI's ``PILReader``.

    Raises:
        DataError: When the image has more than 8 bits a channel, or several pages.
    """
    return _of_eight_bits(image).convert("RGB")


def to_gray(image: Image.Image) -> Image.Image:
    """Convert an opened mask to upright gray, 8 bits; a ``converter`` for MONAI's ``PILReader``.

    Raises:
        DataError: When the image has more than 8 bits a channel, or several pages.
    """
    return _of_eight_bits(image).convert("L")


def to_deep_gray(image: Image.Image) -> Image.Image:
    """Convert an opened image to upright gray, of 16 bits where it has them.

    Raises:
        DataError: When the image has several pages, or is of a format that is neither.
    """
    return _upright(image) if image.mode in DEEP_MODES else to_gray(image)


def to_label(image: Image.Image) -> Image.Image:
    """Turn an opened mask upright, with the values as they are stored: a palette's indices are the classes.

    Raises:
        DataError: When the image has several pages, or is of a format that is neither.
    """
    return _upright(image) if image.mode == "P" else to_deep_gray(image)


def to_shown(image: Image.Image) -> Image.Image:
    """Convert an opened image to upright RGB to look at: more than 8 bits from their lowest to their highest value.

    Raises:
        DataError: When the image has several pages, or is of a format that is neither.
    """
    if image.mode not in DEEP_MODES:
        return to_rgb(image)
    values = np.asarray(_upright(image), dtype=np.float64)
    low, high = values.min(), values.max()
    return Image.fromarray(((values - low) * (255 / max(high - low, 1e-12))).round().astype(np.uint8)).convert("RGB")


#: How a picture is read, by what its pixels are.
PICTURES: dict[str, Callable[[Image.Image], Image.Image]] = {"rgb": to_rgb, "gray": to_deep_gray, "label": to_label}
