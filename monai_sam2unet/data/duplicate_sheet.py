# SPDX-License-Identifier: Apache-2.0
"""A picture of pairs of images that were taken for duplicates, to judge them by eye."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from monai_sam2unet.data.duplicates import Duplicate
from monai_sam2unet.data.picture_modes import to_rgb

__all__ = ["draw_duplicates"]

PAIRS_ACROSS = 4
LARGEST_SIDE = 220
LONGEST_NAME = 24


def _small(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as opened:
        image = to_rgb(opened)
    image.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    return np.asarray(image)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else "…" + name[-LONGEST_NAME:]


def draw_duplicates(path: str | Path, pairs: Sequence[tuple[str, str, Duplicate]]) -> None:
    """Draw pairs side by side, with the names of their sets and files and how near they are.

    Args:
        path: PNG file to write.
        pairs: for each pair the names of both sets, and the duplicate; at least one.
    """
    across = min(PAIRS_ACROSS, len(pairs))
    down = -(-len(pairs) // across)
    figure = Figure(figsize=(3.4 * across, 2.1 * down), layout="constrained")
    grid = figure.subplots(down, 2 * across, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for place, (first_set, second_set, found) in enumerate(pairs):
        row, column = divmod(place, across)
        near = f"{found.distance} bits, {found.similarity:.3f}" if found.kind == "near" else found.kind
        turn = "" if found.turn == "none" else found.turn
        for axes, name, file, note in (
            (grid[row, 2 * column], first_set, found.first, near),
            (grid[row, 2 * column + 1], second_set, found.second, turn),
        ):
            axes.imshow(_small(file))
            axes.set_title(f"{_short(name)}\n{_short(file.name)}\n{note}", fontsize=6, parse_math=False)
    figure.savefig(path, dpi=110)
