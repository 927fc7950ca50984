# SPDX-License-Identifier: Apache-2.0
"""Reads prediction maps and true masks from picture files."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from monai_sam2unet.data.image_check import EIGHT_BIT_MODES, READ_ERRORS, to_gray
from monai_sam2unet.errors import DataError, listing
from monai_sam2unet.evaluation.prediction_folder import PredictionCase

__all__ = ["check_sizes", "read_map", "read_pair", "read_truth", "upsample_map"]

# What JPEG makes of gray at most.
GRAY_NOISE = 16


def _gray(image: Image.Image) -> np.ndarray:
    """8-bit values of a picture that is gray, in whatever mode it was saved."""
    if image.mode in ("1", "L"):
        return np.array(image.convert("L"))
    pixels = np.asarray(image.convert("RGB"))
    if int(np.ptp(pixels, axis=2).max()) > GRAY_NOISE:
        raise DataError("it is coloured; a prediction map is gray, dark for 0 and white for 1")
    return np.array(image.convert("RGB").convert("L"))


def read_map(path: str | Path) -> Tensor:
    """Read a prediction map.

    Args:
        path: a gray picture: 8 bit, 16 bit, or 32-bit floating point with values in [0, 1].

    Returns:
        (1, H, W): uint8 as stored for 8 bits; else float32 in [0, 1].

    Raises:
        DataError: When it is coloured, a floating point value is not in [0, 1], or the format is another.
        OSError: When the file cannot be read.
    """
    with Image.open(path) as opened:
        image = ImageOps.exif_transpose(opened)
        if image.mode in EIGHT_BIT_MODES:
            return torch.from_numpy(_gray(image))[None]
        values = np.array(image).astype(np.float32)
        # Older versions of Pillow give 16-bit PNG as mode I.
        if image.mode.startswith("I"):
            if values.max() > 65535 or values.min() < 0:
                raise DataError("its values are not those of 16 bits")
            return torch.from_numpy(values / 65535)[None]
    if image.mode != "F" or not bool(((values >= 0) & (values <= 1)).all()):
        raise DataError(f"it has the mode {image.mode}; floating point maps hold values in [0, 1]")
    return torch.from_numpy(values)[None]


def read_truth(path: str | Path, mask_threshold: float = 127.5) -> Tensor:
    """Read a true mask.

    Args:
        path: a gray picture, 8 bit.
        mask_threshold: values from this one on (of 255) are foreground.

    Returns:
        (1, H, W), bool.

    Raises:
        DataError: When it is not 8 bit; or not empty, but all below the threshold (0/1 instead of 0/255, say).
        OSError: When the file cannot be read.
    """
    with Image.open(path) as opened:
        values = np.array(to_gray(opened))
    if 0 < values.max() < mask_threshold:
        raise DataError(f"its largest value is {values.max()}, foreground is {mask_threshold:g} up (--mask-threshold)")
    return torch.from_numpy(values >= mask_threshold)[None]


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


def read_pair(case: PredictionCase, resize: bool, mask_threshold: float) -> tuple[Tensor, Tensor] | str:
    """Read a map and its mask, or say in a line why that cannot be.

    Args:
        case: the files.
        resize: whether the map is brought to the mask's size.
        mask_threshold: as of :func:`read_truth`.

    Returns:
        Map and mask, (1, H, W) both; or the line.
    """
    path = case.prediction
    try:
        found = read_map(path)
        path = case.truth
        truth = read_truth(path, mask_threshold)
    except READ_ERRORS as error:
        return f"{path}: {str(error).splitlines()[0] or type(error).__name__}"
    if resize:
        found = upsample_map(found, *truth.shape[1:])
    if found.shape != truth.shape:
        return f"{case.prediction}: {_size_text(found.shape[2], found.shape[1])}, its mask another size"
    return found, truth


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
