# SPDX-License-Identifier: Apache-2.0
"""Small pictures and digests of images, by which those can be told that are one and the same."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from monai_sam2unet.data.image_check import READ_ERRORS
from monai_sam2unet.data.picture_modes import to_rgb

__all__ = ["BLACK", "THUMBNAIL_SIZE", "VIEWS", "Fingerprints", "fingerprint_images"]

#: Gray values up to this one (of 255) are taken for the black frame around an endoscope's picture.
BLACK = 32
#: Gray values (of 255) by which the brightest and the darkest pixel of a small picture must differ to show anything;
#: what is below that are rounding and noise.
MIN_CONTRAST = 8
#: Height and width of the small pictures, in pixels.
THUMBNAIL_SIZE = 64
#: The two small pictures of an image: of all of it, and of what is inside its black borders.
VIEWS = ("whole", "inside")

# Share of pixels of a row or column that must be brighter for it to be no border.
BRIGHT_SHARE = 0.1
BORDER_GRID = 256


@dataclass(frozen=True)
class Fingerprints:
    """What is kept of N images to find duplicates by; about 8 kB an image.

    Attributes:
        paths: the images' files.
        thumbnails: (N, 2, 64, 64), uint8, gray: of the whole image, and of what is inside its black borders.
        file_digests: SHA-256 of each file's bytes.
        pixel_digests: SHA-256 of each image's size and decoded pixels (RGB, upright).
    """

    paths: list[Path]
    thumbnails: NDArray[np.uint8]
    file_digests: list[bytes]
    pixel_digests: list[bytes]

    @property
    def has_contrast(self) -> NDArray[np.bool_]:
        """Whether the small pictures (N, 2) show anything; blank images do not."""
        least, most = self.thumbnails.min((-2, -1)), self.thumbnails.max((-2, -1))
        contrast: NDArray[np.bool_] = most - least >= MIN_CONTRAST
        return contrast

    def __len__(self) -> int:
        return len(self.paths)


def _inside(gray: Image.Image) -> tuple[float, float, float, float]:
    """The box inside the black borders (left, top, right, bottom); all of the image if it is black."""
    bright = np.asarray(gray.resize((BORDER_GRID, BORDER_GRID), Image.Resampling.BOX)) > BLACK
    rows = np.flatnonzero(bright.mean(1) > BRIGHT_SHARE)
    columns = np.flatnonzero(bright.mean(0) > BRIGHT_SHARE)
    if not rows.size or not columns.size:
        return 0, 0, gray.width, gray.height
    across, down = gray.width / BORDER_GRID, gray.height / BORDER_GRID
    return columns[0] * across, rows[0] * down, (columns[-1] + 1) * across, (rows[-1] + 1) * down


def _fingerprint(path: Path) -> tuple[NDArray[np.uint8], bytes, bytes] | str:
    try:
        with Image.open(path) as opened:
            image = to_rgb(opened)
        content = path.read_bytes()
    except READ_ERRORS as error:
        return f"{path}: cannot be read ({str(error).splitlines()[0]})"
    pixels = hashlib.sha256(f"{image.size}".encode())
    pixels.update(image.tobytes())
    gray = image.convert("L")
    size = (THUMBNAIL_SIZE, THUMBNAIL_SIZE)
    boxes = (None, _inside(gray))
    views = np.stack([np.asarray(gray.resize(size, Image.Resampling.LANCZOS, box=box)) for box in boxes])
    return views, hashlib.sha256(content).digest(), pixels.digest()


def fingerprint_images(
    paths: Sequence[str | Path], num_threads: int = 4, on_image: Callable[[], None] | None = None
) -> tuple[Fingerprints, list[str]]:
    """Read images, each once, and keep what duplicates are found by.

    Args:
        paths: the files; JPEG, PNG and others of 8 bits a channel.
        num_threads: how many files are decoded at the same time.
        on_image: called after each image, in the caller's thread; for a progress bar.

    Returns:
        The fingerprints of the images that can be read, and for each other one a line that says why.
    """
    files = [Path(path) for path in paths]
    kept: list[tuple[Path, NDArray[np.uint8], bytes, bytes]] = []
    rejected = []
    with ThreadPoolExecutor(num_threads) as pool:
        for path, found in zip(files, pool.map(_fingerprint, files), strict=True):
            if isinstance(found, str):
                rejected.append(found)
            else:
                kept.append((path, *found))
            if on_image is not None:
                on_image()
    thumbnails = np.zeros((len(kept), len(VIEWS), THUMBNAIL_SIZE, THUMBNAIL_SIZE), np.uint8)
    for place, (_, views, _, _) in enumerate(kept):
        thumbnails[place] = views
    return Fingerprints([k[0] for k in kept], thumbnails, [k[2] for k in kept], [k[3] for k in kept]), rejected
