# SPDX-License-Identifier: Apache-2.0
"""Cuts squares that show no polyp out of test images, to count false alarms on.

    python -m benchmarks.polyp_free_crops --dataset-dir DIR --output CROPS

Public polyp sets have a polyp in every image. What is left beside it is mostly mucosa of the same video; the network
sees it enlarged, so that a rate of false alarms on crops is to compare networks by, not that of whole frames.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_dilation, binary_opening

from monai_sam2unet.bundle import evaluation_datalist

__all__ = ["largest_square", "write_crops"]

#: Pixels kept between a polyp's outline and a crop; gray level up to which a pixel is the frame around the view; side
#: of a square that is frame, not a dark spot; and least side of a crop as a share of the image's shorter side.
MARGIN, FRAME_LEVEL, FRAME_SIZE, LEAST_SHARE = 5, 20, 9, 0.4


def largest_square(free: NDArray[np.bool_]) -> tuple[int, int, int]:
    """The largest square of pixels that are all free.

    Args:
        free: (H, W).

    Returns:
        First row, first column and side, in pixels; a side of 0 where nothing is free.

    Example:
        >>> free = np.ones((4, 6), bool)
        >>> free[0, 2] = False
        >>> largest_square(free)
        (0, 3, 3)
    """
    # Side of the largest free square that ends at each pixel: one more than the least of its three neighbours.
    above = np.zeros(free.shape[1] + 1, int)
    best = (0, 0, 0)
    for row, pixels in enumerate(free):
        here = np.zeros_like(above)
        for column in np.flatnonzero(pixels):
            here[column + 1] = 1 + min(above[column], above[column + 1], here[column])
        side = int(here.max())
        if side > best[2]:
            best = (row - side + 1, int(here.argmax()) - side, side)
        above = here
    return best


def _crop(image: Image.Image, mask: NDArray[np.bool_]) -> Image.Image | None:
    frame = binary_opening(np.asarray(image.convert("L")) <= FRAME_LEVEL, np.ones((FRAME_SIZE, FRAME_SIZE)))
    top, left, side = largest_square(~binary_dilation(mask, iterations=MARGIN) & ~cast("NDArray[np.bool_]", frame))
    if side < LEAST_SHARE * min(image.size):
        return None
    return image.crop((left, top, left + side, top + side))


def write_crops(dataset_dir: Path, output: Path) -> dict[str, int]:
    """Write the crops as sets that the bundle evaluates on, with empty masks.

    Args:
        dataset_dir: folder with TestDataset/.
        output: gets ``SET without polyp/images/`` and ``masks/``; what is there is kept.

    Returns:
        Number of crops of each set.
    """
    counts: dict[str, int] = {}
    for item in evaluation_datalist(dataset_dir):
        name = f"{item['dataset']} without polyp"
        counts.setdefault(name, 0)
        image = Image.open(item["image"]).convert("RGB")
        crop = _crop(image, np.asarray(Image.open(item["label"]).convert("L")) > 127)
        if crop is None:
            continue
        counts[name] += 1
        for folder, picture in (("images", crop), ("masks", Image.new("L", crop.size))):
            (output / name / folder).mkdir(parents=True, exist_ok=True)
            picture.save(output / name / folder / f"{Path(item['image']).stem}.png")
    return counts


def main(
    dataset_dir: Annotated[Path, typer.Option(help="Folder with TestDataset/.", exists=True)],
    output: Annotated[Path, typer.Option(help="Folder for the crops.")],
) -> None:
    """Write the crops; say how many."""
    for name, count in write_crops(dataset_dir, output).items():
        typer.echo(f"{name}: {count}")


if __name__ == "__main__":
    typer.run(main)
