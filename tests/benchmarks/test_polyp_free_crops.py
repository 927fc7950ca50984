# SPDX-License-Identifier: Apache-2.0
"""Tests of the crops without polyp."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from benchmarks.polyp_free_crops import MARGIN, largest_square, write_crops


def by_trying(free):
    """Side of the largest free square, by trying all."""
    height, width = free.shape
    sides = range(min(height, width), 0, -1)
    tried = (
        side
        for side in sides
        for top in range(height - side + 1)
        for left in range(width - side + 1)
        if free[top : top + side, left : left + side].all()
    )
    return next(tried, 0)


@pytest.mark.parametrize("seed", range(6))
def test_no_square_is_larger(seed):
    free = np.random.default_rng(seed).random((13, 17)) > 0.12
    top, left, side = largest_square(free)
    assert free[top : top + side, left : left + side].all()
    assert side == by_trying(free)


def test_nothing_free():
    assert largest_square(np.zeros((4, 4), bool))[2] == 0


def picture(folder, name, gray, mask):
    for kind, pixels in (("images", np.repeat(gray[..., None], 3, 2)), ("masks", mask)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / kind / f"{name}.png")


def test_crops_keep_off_polyps_and_the_frame(tmp_path):
    gray, mask = np.full((100, 160), 150), np.zeros((100, 160))
    gray[:, 130:] = 5  # the frame
    gray[40, 60] = 0  # a dark spot of the mucosa
    mask[20:80, 10:30] = 255
    picture(tmp_path / "data" / "TestDataset" / "A", "1", gray, mask)
    picture(tmp_path / "data" / "TestDataset" / "A", "full", gray, 255 - mask)
    assert write_crops(tmp_path / "data", tmp_path / "crops") == {"A without polyp": 1}
    crop = np.asarray(Image.open(tmp_path / "crops" / "A without polyp" / "images" / "1.png"))
    assert crop.shape == (130 - 30 - MARGIN, 130 - 30 - MARGIN, 3)
    assert crop.min(axis=(0, 1)).tolist() == [0, 0, 0]
    assert (crop < 100).any(2).sum() == 1
    empty = np.asarray(Image.open(tmp_path / "crops" / "A without polyp" / "masks" / "1.png"))
    assert empty.shape == crop.shape[:2]
    assert not empty.any()
