# SPDX-License-Identifier: Apache-2.0
"""A picture of several cases: image, truth and prediction side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from monai_sam2unet.data import list_images, to_gray, to_rgb
from monai_sam2unet.errors import DataError
from monai_sam2unet.evaluation.overlay import draw_overlay

__all__ = ["write_contact_sheet"]


def _open_mask(folder: Path, stem: str) -> np.ndarray:
    path = next((p for p in list_images(folder) if p.stem == stem), None)
    if path is None:
        raise DataError(f"There is no mask of {stem} in {folder}.")
    with Image.open(path) as opened:
        return np.asarray(to_gray(opened)) > 127


def write_contact_sheet(path: Path, image_dir: Path, truth_dir: Path, prediction_dir: Path, cases: int = 4) -> Path:
    """Draw the first cases of a folder, a row each: image, truth, prediction, and the prediction over the image.

    Args:
        path: PNG file to write.
        image_dir: folder of the images.
        truth_dir: folder of the true masks, of the same stems.
        prediction_dir: folder of the predicted masks, of the same stems.
        cases: how many cases at most.

    Returns:
        ``path``.

    Raises:
        DataError: When a folder is missing or holds no image, or an image has no mask.
    """
    images = list_images(image_dir)[:cases]
    figure = Figure(figsize=(9, 1.75 * len(images)), layout="constrained")
    grid = figure.subplots(len(images), 4, squeeze=False)
    for row, image_path in zip(grid, images, strict=True):
        with Image.open(image_path) as opened:
            image = np.asarray(to_rgb(opened))
        truth, prediction = (_open_mask(folder, image_path.stem) for folder in (truth_dir, prediction_dir))
        pictures = (image, truth, prediction, draw_overlay(image, prediction, truth))
        titles = ("image", "truth", "prediction", "prediction (green), truth (yellow)")
        for axes, picture, title in zip(row, pictures, titles, strict=True):
            axes.imshow(picture, cmap="gray")
            axes.set_axis_off()
            if image_path == images[0]:
                axes.set_title(title, fontsize=8)
    figure.savefig(path, dpi=110)
    return path
