# SPDX-License-Identifier: Apache-2.0
"""Reads photographs and masks, and checks all of them before a training spends time on some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from monai_sam2unet.errors import ConfigError, DataError, listing

__all__ = ["check_mask_threshold", "check_pairs", "split_readable", "to_gray", "to_rgb"]

READ_ERRORS = (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError)
PicturePair = Mapping[str, str | list[str]]
EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")


def _upright(image: Image.Image) -> Image.Image:
    """Turn a photograph as its camera says (EXIF orientation), for that is how it was shown and annotated."""
    if image.mode not in EIGHT_BIT_MODES:
        raise DataError(f"Images of 8 bits a channel are expected, this one has the mode {image.mode}.")
    return ImageOps.exif_transpose(image)


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an opened image to upright RGB, 8 bits a channel; a ``converter`` for MONAI's ``PILReader``.

    Raises:
        DataError: When the image has more than 8 bits a channel.
    """
    return _upright(image).convert("RGB")


def to_gray(image: Image.Image) -> Image.Image:
    """Convert an opened mask to upright gray, 8 bits; a ``converter`` for MONAI's ``PILReader``.

    Raises:
        DataError: When the image has more than 8 bits a channel.
    """
    return _upright(image).convert("L")


def _read(path: str, gray: bool = False) -> tuple[np.ndarray | None, str | None]:
    """Decode a file wholly: its pixels, or why not."""
    try:
        with Image.open(path) as image:
            return np.asarray(to_gray(image) if gray else to_rgb(image)), None
    except READ_ERRORS as error:
        return None, f"{path}: cannot be read ({str(error).splitlines()[0]})"


def _read_mask(paths: Sequence[str]) -> tuple[np.ndarray | None, list[str]]:
    """Decode a mask, of several files their union: its pixels, and what is wrong."""
    found = [_read(path, gray=True) for path in paths]
    problems = [problem for _, problem in found if problem]
    parts = [pixels for pixels, _ in found if pixels is not None]
    if len({part.shape for part in parts}) > 1:
        problems.append(f"{paths[0]}: the {len(paths)} parts of this mask differ in size")
    return (None if problems else np.maximum.reduce(parts)), problems


def _orientation(path: str) -> int:
    with Image.open(path) as image:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))


def _annotated_either_way(image: str, label: str, square: bool) -> bool:
    """Whether EXIF turns the image only, and the sizes do not show it (of quarter turns, 5 to 8, they do)."""
    hidden = range(2, 9) if square else range(2, 5)
    return _orientation(label) == 1 and _orientation(image) in hidden


def _problems_of(item: PicturePair, mask_threshold: float) -> list[str]:
    path, labels = str(item["image"]), [item["label"]] if isinstance(item["label"], str) else list(item["label"])
    image, image_problem = _read(path)
    mask, problems = _read_mask(labels)
    problems = [*([image_problem] if image_problem else []), *problems]
    if image is not None and mask is not None and image.shape[:2] != mask.shape:
        (height, width), (mask_height, mask_width) = image.shape[:2], mask.shape
        problems.append(f"{labels[0]}: the mask is {mask_width}x{mask_height} pixels, its image {width}x{height}")
    if mask is not None and 0 < mask.max() < mask_threshold:
        problems.append(f"{labels[0]}: the mask's largest value is {mask.max()}, foreground is {mask_threshold} up")
    if (
        image is not None
        and mask is not None
        and _annotated_either_way(path, labels[0], mask.shape[0] == mask.shape[1])
    ):
        problems.append(f"{path}: EXIF turns it, but not its mask; save the image upright")
    return problems


def check_mask_threshold(mask_threshold: float) -> None:
    """Make sure that a threshold for masks can tell their values apart.

    Args:
        mask_threshold: mask values from this one on are foreground.

    Raises:
        ConfigError: When it is not above 0 and at most 255.
    """
    if not 0 < mask_threshold <= 255:
        raise ConfigError(
            f"mask_threshold is a value of 8-bit masks, above 0 and at most 255, got {mask_threshold!r}; "
            "127.5 is for masks of 0 and 255, 0.5 for masks of 0 and 1."
        )


def check_pairs(items: Sequence[PicturePair], num_threads: int = 4, mask_threshold: float = 127.5) -> None:
    """Decode all images and masks once and name everything that is wrong with them, at once.

    Args:
        items: pairs ``{"image": path, "label": path}``; of a mask in several files ``label`` is their list.
        num_threads: how many files are decoded at the same time.
        mask_threshold: mask values from this one on (of 255) are foreground.

    Raises:
        ConfigError: When ``mask_threshold`` is not above 0 and at most 255.
        DataError: When files cannot be read; a mask has another size than its image; a mask that is not empty stays
            below the threshold (0/1 instead of 0/255, say: it would count as empty); or an image is turned by its EXIF
            orientation and its mask is not.
    """
    check_mask_threshold(mask_threshold)
    with ThreadPoolExecutor(num_threads) as pool:
        problems = [p for found in pool.map(lambda item: _problems_of(item, mask_threshold), items) for p in found]
    if problems:
        raise DataError(
            f"{len(problems)} problems with images or masks; mend or remove these files:\n{listing(problems)}"
        )


def split_readable(paths: Sequence[str | Path], num_threads: int = 4) -> tuple[list[str], list[str]]:
    """Separate images that can be decoded from those that cannot.

    Args:
        paths: the files.
        num_threads: how many files are decoded at the same time.

    Returns:
        The readable files, and for each other one a line that says why.
    """
    names = [str(p) for p in paths]
    with ThreadPoolExecutor(num_threads) as pool:
        reasons = list(pool.map(lambda name: _read(name)[1], names))
    readable = [n for n, reason in zip(names, reasons, strict=True) if reason is None]
    return readable, [reason for reason in reasons if reason is not None]
