# SPDX-License-Identifier: Apache-2.0
"""Reads prediction maps and true masks from picture files."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from monai_sam2unet.data.image_check import READ_ERRORS, check_mask_threshold
from monai_sam2unet.data.picture_modes import EIGHT_BIT_MODES, to_gray
from monai_sam2unet.errors import DataError, listing
from monai_sam2unet.evaluation.prediction_folder import PredictionCase

__all__ = ["MapPair", "check_sizes", "read_map", "read_pair", "read_truth", "upsample_map"]

# What JPEG makes of gray at most.
GRAY_NOISE = 16

# A mask has two values, but for its smoothed outline. One with more than this share of others is soft.
SOFT_SHARE, SOFT_RANGE = 0.2, (10, 245)


class MapPair(NamedTuple):
    """A map and its mask, as they are scored, and what is known of their files.

    Args:
        prediction: (1, H, W), uint8 levels or float32 in [0, 1].
        truth: (1, H, W), bool.
        bits: of a value in the map's file: 8, 16, or 32 for floating point.
        largest: the largest value in the map's file, as it is stored.
        soft: whether more than a fifth of the mask's pixels are neither dark nor bright.
    """

    prediction: Tensor
    truth: Tensor
    bits: int
    largest: float
    soft: bool


def _check_alpha(image: Image.Image) -> None:
    if not image.has_transparency_data:
        return
    low, high = image.convert("RGBA").getchannel("A").getextrema()
    if low != high:
        raise DataError(
            "its alpha channel (transparency) varies, and only its gray values would be read; if the mask is in the "
            "alpha channel, save that as a gray picture, else save the picture without alpha"
        )


def _gray(image: Image.Image) -> np.ndarray:
    """8-bit values of a picture that is gray, in whatever mode it was saved."""
    if image.mode in ("1", "L"):
        return np.array(image.convert("L"))
    pixels = np.asarray(image.convert("RGB"))
    if int(np.ptp(pixels, axis=2).max()) > GRAY_NOISE:
        raise DataError("it is coloured; a prediction map is gray, dark for 0 and white for 1")
    return np.array(image.convert("RGB").convert("L"))


def _read_map(path: Path) -> tuple[Tensor, int, float]:
    """The map, the bits of a value in its file, and the largest of them."""
    with Image.open(path) as opened:
        image = ImageOps.exif_transpose(opened)
        if image.mode in EIGHT_BIT_MODES:
            _check_alpha(image)
            levels = _gray(image)
            return torch.from_numpy(levels)[None], 8, float(levels.max())
        values = np.array(image).astype(np.float32)
        # Older versions of Pillow give 16-bit PNG as mode I.
        if image.mode.startswith("I"):
            if values.max() > 65535 or values.min() < 0:
                raise DataError("its values are not those of 16 bits")
            return torch.from_numpy(values / 65535)[None], 16, float(values.max())
    if image.mode != "F" or not bool(((values >= 0) & (values <= 1)).all()):
        raise DataError(f"it has the mode {image.mode}; floating point maps hold values in [0, 1]")
    return torch.from_numpy(values)[None], 32, float(values.max())


def read_map(path: str | Path) -> Tensor:
    """Read a prediction map.

    Args:
        path: a gray picture: 8 bit, 16 bit, or 32-bit floating point with values in [0, 1].

    Returns:
        (1, H, W): uint8 as stored for 8 bits; else float32 in [0, 1].

    Raises:
        DataError: When it is coloured, its alpha channel varies, a floating point value is not in [0, 1], or the
            format is another.
        OSError: When the file cannot be read.
    """
    return _read_map(Path(path))[0]


def _read_truth(path: Path, mask_threshold: float) -> tuple[Tensor, bool]:
    """The mask, and whether it is soft."""
    with Image.open(path) as opened:
        if opened.mode.startswith("I"):
            raise DataError("it has 16 bits; save the mask with 8, foreground as 255")
        _check_alpha(opened)
        values = np.array(to_gray(opened))
    if 0 < values.max() < mask_threshold:
        hint = "; a mask of 0 and 1? Multiply it by 255" if values.max() == 1 else ""
        raise DataError(
            f"its largest value is {values.max()}, foreground is {mask_threshold:g} up (--mask-threshold){hint}"
        )
    low, high = SOFT_RANGE
    soft = bool(((values > low) & (values < high)).mean() > SOFT_SHARE)
    return torch.from_numpy(values >= mask_threshold)[None], soft


def read_truth(path: str | Path, mask_threshold: float = 127.5) -> Tensor:
    """Read a true mask.

    Args:
        path: a gray picture, 8 bit.
        mask_threshold: values from this one on (of 255) are foreground.

    Returns:
        (1, H, W), bool.

    Raises:
        ConfigError: When the threshold is not above 0 and at most 255.
        DataError: When it is not 8 bit, its alpha channel varies; or it is not empty, but all below the threshold (0/1
            instead of 0/255, say).
        OSError: When the file cannot be read.
    """
    check_mask_threshold(mask_threshold)
    return _read_truth(Path(path), mask_threshold)[0]


def upsample_map(values: Tensor, height: int, width: int) -> Tensor:
    """Resize a map bilinearly, without the outer pixels' corners moving, as the released code does with its logits.

    Args:
        values: (1, h, w), uint8 levels or probabilities.
        height: of the result.
        width: of the result.

    Returns:
        (1, height, width), float32 in [0, 1]; the map itself where it has this size.
    """
    if values.shape[1:] == (height, width):
        return values
    maps = values.float() / 255 if values.dtype == torch.uint8 else values
    resized = F.interpolate(maps[None], (height, width), mode="bilinear", align_corners=False)[0]
    return resized.clamp(0, 1)


def read_pair(case: PredictionCase, resize: bool, mask_threshold: float) -> MapPair | str:
    """Read a map and its mask, or say in a line why that cannot be.

    Args:
        case: the files.
        resize: whether the map is brought to the mask's size.
        mask_threshold: as of :func:`read_truth`.

    Returns:
        Both, of one size; or the line.
    """
    path = case.prediction
    try:
        found, bits, largest = _read_map(path)
        path = case.truth
        truth, soft = _read_truth(path, mask_threshold)
    except READ_ERRORS as error:
        return f"{path}: {str(error).splitlines()[0] or type(error).__name__}"
    (height, width), size = found.shape[1:], truth.shape[1:]
    if resize and (height, width) != size and (width, height) == size:
        return (
            f"{case.prediction}: the map is {_size_text(width, height)}, its mask {_size_text(height, width)}: "
            "rows and columns look swapped; save the map as its image lies"
        )
    if resize:
        found = upsample_map(found, *size)
    if found.shape != truth.shape:
        return f"{case.prediction}: {_size_text(width, height)}, its mask another size"
    return MapPair(found, truth, bits, largest, soft)


def _size_text(width: int, height: int) -> str:
    return f"{width}x{height} pixels"


def _size_of(path: Path) -> tuple[int, int] | None:
    """Width and height as the picture is shown; None where the file cannot be read."""
    try:
        with Image.open(path) as image:
            turned = int(image.getexif().get(ExifTags.Base.Orientation, 1)) >= 5
            return (image.height, image.width) if turned else image.size
    except READ_ERRORS:
        return None


def _mismatch(case: PredictionCase) -> str | None:
    found, truth = _size_of(case.prediction), _size_of(case.truth)
    if found is None or truth is None or found == truth:
        return None
    return f"{case.prediction}: the map is {_size_text(*found)}, its mask {_size_text(*truth)}"


def check_sizes(cases: Sequence[PredictionCase], num_threads: int = 4) -> None:
    """Make sure before anything is scored that maps are as large as their masks, by the files' headers.

    Args:
        cases: the files; those that cannot be read are passed over here.
        num_threads: how many files are looked at at the same time.

    Raises:
        DataError: When some are not; all are counted.
    """
    with ThreadPoolExecutor(num_threads) as pool:
        found = [line for line in pool.map(_mismatch, cases) if line is not None]
    if found:
        raise DataError(
            f"{len(found)} maps are not as large as their masks. Save them at the masks' size, or let them be resized "
            f"bilinearly with --resize:\n{listing(found)}"
        )
