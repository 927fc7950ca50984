# SPDX-License-Identifier: Apache-2.0
"""What a picture and its mask are like, in the numbers that a plan follows from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from monai_sam2unet.data.image_check import READ_ERRORS
from monai_sam2unet.data.picture_modes import PICTURES, to_deep_gray, to_gray, to_rgb

__all__ = ["PERCENTILES", "PictureFingerprint", "fingerprint_picture", "measure_objects", "percentiles_of"]

#: Of the intensities in and out of the foreground.
PERCENTILES = (0.5, 50.0, 99.5)


@dataclass(frozen=True)
class PictureFingerprint:
    """What one picture and its mask are like.

    Attributes:
        image: its file.
        height: in pixels.
        width: in pixels.
        is_colour: whether its channels differ.
        bits: of a channel, 8 or 16.
        values: number of pixels of each value of the mask, as it is stored; a palette's indices.
        objects: of each object, a connected part of one value above 0, its value.
        areas: of each object its area in pixels.
        thickness: of each object, four times the mean distance of its pixels from its border, in pixels: of a long
            strip its width.
        inside: percentiles (:data:`PERCENTILES`) of the gray values, 0 to 1, where the mask is not 0; None without.
        outside: the same where it is 0.
        sha256: of the picture's file.
    """

    image: str
    height: int
    width: int
    is_colour: bool
    bits: int
    values: dict[int, int]
    objects: list[int]
    areas: list[int]
    thickness: list[float]
    inside: list[float] | None
    outside: list[float] | None
    sha256: str

    def __post_init__(self) -> None:
        # JSON, in which it may have been kept, makes texts of the keys.
        object.__setattr__(self, "values", {int(value): count for value, count in self.values.items()})

    @property
    def foreground(self) -> float:
        """Share of the pixels that are not 0 in the mask."""
        return 1 - self.values.get(0, 0) / (self.height * self.width)


def _mask_of(paths: list[str]) -> NDArray:
    parts = []
    for path in paths:
        with Image.open(path) as opened:
            part = np.asarray(PICTURES["label"](opened))
            if opened.mode == "P" and part.max() <= 1 and ((np.asarray(to_gray(opened)) > 0) != (part > 0)).any():
                raise ValueError(f"{path}: its palette's colours say otherwise than its indices; save it as gray")
            parts.append(part)
    return np.maximum.reduce(parts)


def _distances(own: NDArray) -> NDArray:
    """Mean distance of each pixel's points from the border of what it lies in, a mask (H, W) with empty edges."""
    distances = ndimage.distance_transform_edt(own)
    # Through the middle of a strip of odd width runs a ridge: half of a pixel's points there lie beyond it.
    ridge = np.zeros(own.shape, bool)
    for lines, found in ((distances, ridge), (distances.T, ridge.T)):
        rises = np.diff(lines, axis=0) >= 1
        falls = np.diff(lines, axis=0) <= -1
        found[1:-1] |= rises[:-1] & falls[1:]
    # The transform measures from the middle of a pixel to that of the nearest one outside, half a pixel too far.
    return distances - 0.5 - 0.25 * ridge


def measure_objects(mask: NDArray) -> tuple[list[int], list[int], list[float]]:
    """Of each connected part of one value above 0 in a mask (H, W): the value, the area and the thickness, in pixels.

    The thickness is four times the mean distance of its pixels from its border: of a long strip its width.
    """
    values, areas, thickness = [], [], []
    for value in np.unique(mask[mask > 0]):
        labels, _ = ndimage.label(mask == value, structure=np.ones((3, 3)))
        for number, box in enumerate(ndimage.find_objects(labels), 1):
            own = np.pad(labels[box] == number, 1)
            values.append(int(value))
            areas.append(int(own.sum()))
            thickness.append(round(4 * float(_distances(own)[own].mean()), 2))
    return values, areas, thickness


def percentiles_of(values: NDArray) -> list[float] | None:
    """The percentiles :data:`PERCENTILES` of values, None of none."""
    return [round(float(v), 4) for v in np.percentile(values, PERCENTILES)] if values.size else None


def fingerprint_picture(item: Mapping[str, Any]) -> PictureFingerprint | str:
    """Measure a picture and its mask.

    Masks of 0 and a bright value, JPEG's noise around both, are taken for what they mean: 0 and 255.

    Args:
        item: ``{"image": path, "label": path}``; of a mask in several files ``label`` is their list.

    Returns:
        What they are like; or a line that says why they cannot be measured.
    """
    path = str(item["image"])
    labels = [item["label"]] if isinstance(item["label"], str) else list(item["label"])
    try:
        with Image.open(path) as opened:
            gray = np.asarray(to_deep_gray(opened))
            colours = np.asarray(to_rgb(opened)) if gray.dtype == np.uint8 else gray[..., None]
        mask = _mask_of(labels)
    except READ_ERRORS as error:
        return f"{path} or its mask cannot be read ({str(error).splitlines()[0]})"
    if mask.shape != gray.shape:
        size, own = (f"{shape[1]}x{shape[0]}" for shape in (mask.shape, gray.shape))
        return f"{labels[0]}: the mask is {size} pixels, its image {own}"
    if not np.issubdtype(mask.dtype, np.integer) and (mask != np.round(mask)).any():
        return f"{labels[0]}: the mask holds values that are no integers"
    if is_noisy_binary(mask):
        mask = (mask >= 128).astype(np.uint8) * np.uint8(255)
    found, counts = np.unique(mask, return_counts=True)
    deep = gray.dtype != np.uint8
    scaled = gray / (65535 if deep else 255)
    objects, areas, thickness = measure_objects(mask)
    sha256 = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return PictureFingerprint(
        image=path,
        height=gray.shape[0],
        width=gray.shape[1],
        is_colour=bool((colours != colours[..., :1]).any()),
        bits=16 if deep else 8,
        values={int(value): int(count) for value, count in zip(found, counts, strict=True)},
        objects=objects,
        areas=areas,
        thickness=thickness,
        inside=percentiles_of(scaled[mask > 0]),
        outside=percentiles_of(scaled[mask == 0]),
        sha256=sha256,
    )


def is_noisy_binary(mask: NDArray) -> bool:
    """Whether the values of a mask lie around 0 and 255 but for a hundredth of the pixels, as JPEG leaves them."""
    near = (mask <= 10) | ((mask >= 245) & (mask <= 255))
    # Classes beside a border of 255, which some sets have, leave the bright side alone.
    bright = mask[(mask >= 245) & (mask < 255)]
    return bool(mask.max() <= 255 and bright.size and near.mean() >= 0.99)
