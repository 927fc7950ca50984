# SPDX-License-Identifier: Apache-2.0
"""Reads photographs and masks, and checks all of them before a training spends time on some."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from monai_sam2unet.data.picture_modes import PICTURES, to_gray
from monai_sam2unet.errors import ConfigError, DataError, listing

__all__ = ["check_mask_threshold", "check_pairs", "pair_problems", "split_readable"]

READ_ERRORS = (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError)
PicturePair = Mapping[str, str | list[str]]


def _read(path: str, convert: Callable[[Image.Image], Image.Image]) -> tuple[np.ndarray | None, str | None]:
    """Decode a file wholly: its pixels, or why not."""
    try:
        with Image.open(path) as image:
            return np.asarray(convert(image)), None
    except READ_ERRORS as error:
        return None, f"{path}: cannot be read ({str(error).splitlines()[0]})"


def _read_mask(
    paths: Sequence[str], convert: Callable[[Image.Image], Image.Image]
) -> tuple[np.ndarray | None, list[str]]:
    """Decode a mask, of several files their union: its pixels, and what is wrong."""
    found = [_read(path, convert) for path in paths]
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


def _value_problem(mask: np.ndarray, mask_threshold: float | None, num_classes: int | None) -> str | None:
    """What is wrong with the values of a mask."""
    largest = mask.max()
    if mask_threshold is not None:
        return (
            f"largest value is {largest}, foreground is {mask_threshold} up" if 0 < largest < mask_threshold else None
        )
    if num_classes is not None and largest > num_classes:
        return f"largest value is {largest}, its classes are 0, the background, to {num_classes}"
    return None


def _problems_of(item: PicturePair, mask_threshold: float | None, num_classes: int | None, picture: str) -> list[str]:
    path, labels = str(item["image"]), [item["label"]] if isinstance(item["label"], str) else list(item["label"])
    image, image_problem = _read(path, PICTURES[picture])
    mask, problems = _read_mask(labels, to_gray if num_classes is None else PICTURES["label"])
    problems = [*([image_problem] if image_problem else []), *problems]
    if image is not None and mask is not None and image.shape[:2] != mask.shape:
        (height, width), (mask_height, mask_width) = image.shape[:2], mask.shape
        problems.append(f"{labels[0]}: the mask is {mask_width}x{mask_height} pixels, its image {width}x{height}")
    value_problem = None if mask is None else _value_problem(mask, mask_threshold, num_classes)
    if value_problem is not None:
        problems.append(f"{labels[0]}: the mask's {value_problem}")
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


def pair_problems(
    items: Sequence[PicturePair],
    num_threads: int = 4,
    mask_threshold: float | None = 127.5,
    num_classes: int | None = None,
    picture: str = "rgb",
) -> list[str]:
    """Decode all images and masks once and name everything that is wrong with them.

    Args:
        items: pairs ``{"image": path, "label": path}``; of a mask in several files ``label`` is their list.
        num_threads: how many files are decoded at the same time.
        mask_threshold: mask values from this one on (of 255) are foreground; None: masks hold class indices.
        num_classes: largest of these indices.
        picture: how images are read: ``"rgb"``, 8 bits a channel, or ``"gray"``, 8 or 16 bits.

    Returns:
        A line for each file that cannot be read; mask of another size than its image; mask that is not empty and stays
        below the threshold (0/1 instead of 0/255, say: it would count as empty), or has a value above the classes; and
        image that is turned by its EXIF orientation where its mask is not.

    Raises:
        ConfigError: When ``mask_threshold`` is not above 0 and at most 255, or there is one beside ``num_classes``, or
            neither of them.
    """
    if (mask_threshold is None) == (num_classes is None):
        raise ConfigError(
            "Masks have a mask_threshold, or hold class indices: class_names and no mask_threshold; got "
            f"mask_threshold {mask_threshold!r} and {num_classes or 'no'} classes."
        )
    if mask_threshold is not None:
        check_mask_threshold(mask_threshold)
    with ThreadPoolExecutor(num_threads) as pool:
        found = pool.map(lambda item: _problems_of(item, mask_threshold, num_classes, picture), items)
        return [problem for of_item in found for problem in of_item]


def check_pairs(items: Sequence[PicturePair], num_threads: int = 4, **how: Any) -> None:
    """Decode all images and masks once; everything that is wrong with them is one error.

    Args:
        items: as in :func:`pair_problems`.
        num_threads: as there.
        how: ``mask_threshold``, ``num_classes`` and ``picture`` of :func:`pair_problems`.

    Raises:
        ConfigError: As there.
        DataError: When there is any problem.
    """
    problems = pair_problems(items, num_threads, **how)
    if problems:
        raise DataError(
            f"{len(problems)} problems with images or masks; mend or remove these files:\n{listing(problems)}"
        )


def split_readable(
    paths: Sequence[str | Path], num_threads: int = 4, picture: str = "rgb"
) -> tuple[list[str], list[str]]:
    """Separate images that can be decoded from those that cannot.

    Args:
        paths: the files.
        num_threads: how many files are decoded at the same time.
        picture: as in :func:`check_pairs`.

    Returns:
        The readable files, and for each other one a line that says why.
    """
    names = [str(p) for p in paths]
    with ThreadPoolExecutor(num_threads) as pool:
        reasons = list(pool.map(lambda name: _read(name, PICTURES[picture])[1], names))
    readable = [n for n, reason in zip(names, reasons, strict=True) if reason is None]
    return readable, [reason for reason in reasons if reason is not None]
