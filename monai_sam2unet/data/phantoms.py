# SPDX-License-Identifier: Apache-2.0
"""Procedural colonoscopy-like frames with polyps, for demonstrations and tests that may not download data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from monai_sam2unet.data.phantom_camera import capture, field_of_view, make_frame
from monai_sam2unet.data.phantom_scene import render_scene
from monai_sam2unet.errors import ConfigError

__all__ = ["make_polyp_phantom", "write_polyp_phantoms"]

_MIN_SIDE = 64  # A smaller frame leaves a small polyp too few pixels to have an outline.


def make_polyp_phantom(seed: int, height: int = 288, width: int = 384) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Make a colonoscopy-like frame with one to three polyps and the mask of the polyps.

    Args:
        seed: which frame, 0 or more; the same seed and size give the same frame.
        height: rows in pixels, 64 or more.
        width: columns in pixels, 64 or more.

    Returns:
        The RGB image, uint8 (H, W, 3), and the mask, uint8 (H, W): 255 on polyps, 1-35 % of the frame, 0 elsewhere.

    Raises:
        ConfigError: (a ``ValueError``) if ``height`` or ``width`` is below 64, or ``seed`` below 0.

    Example:
        >>> image, mask = make_polyp_phantom(seed=0, height=96, width=128)
        >>> image.shape, mask.shape
        ((96, 128, 3), (96, 128))
    """
    _check_request(seed, height, width)
    frame = make_frame(np.random.default_rng(seed), height, width)
    scene, polyp = render_scene(frame)
    field = field_of_view(frame)
    return capture(frame, scene, field), ((polyp > 0.5) & field).astype(np.uint8) * 255


def write_polyp_phantoms(
    folder: str | Path, num_train: int = 160, num_test: int = 32, height: int = 288, width: int = 384, seed: int = 0
) -> Path:
    """Write phantoms in PraNet's layout, ``TrainDataset`` and ``TestDataset/Phantom`` with ``images`` and ``masks``.

    Files are named ``0001.png`` onwards; those already there are replaced. Each frame has its own size, within 10 % of
    the one asked for. No training frame is a test frame, and neither depends on how many there are of the other.

    Args:
        folder: where to write, made if missing.
        num_train: training frames, 1 or more.
        num_test: test frames, 0 or more.
        height: rows in pixels, 64 or more, give or take 10 %.
        width: columns in pixels, 64 or more, give or take 10 %.
        seed: which set of frames, 0 or more.

    Returns:
        The folder.

    Raises:
        ConfigError: (a ``ValueError``) if a number or size is below what is allowed.
    """
    _check_at_least("num_train", num_train, 1)
    _check_at_least("num_test", num_test, 0)
    _check_request(seed, height, width)
    folder = Path(folder)
    # Even seeds train and odd ones test, so that the two never meet.
    for part, count, parity in (("TrainDataset", num_train, 0), ("TestDataset/Phantom", num_test, 1)):
        for kind in ("images", "masks"):
            (folder / part / kind).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            _write_phantom(folder / part, f"{index + 1:04d}.png", (seed << 32) + 2 * index + parity, (height, width))
    return folder


def _write_phantom(part: Path, name: str, seed: int, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    height, width = (max(_MIN_SIDE, round(side * rng.uniform(0.9, 1.1))) for side in size)
    for kind, pixels in zip(("images", "masks"), make_polyp_phantom(seed, height, width), strict=True):
        Image.fromarray(pixels).save(part / kind / name)


def _check_at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(f"{name} is {value}, but must be {least} or more.")


def _check_request(seed: int, height: int, width: int) -> None:
    _check_at_least("seed", seed, 0)
    _check_at_least("height", height, _MIN_SIDE)
    _check_at_least("width", width, _MIN_SIDE)
