# SPDX-License-Identifier: Apache-2.0
"""Tests of what pixels of every kind are read as."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from monai_sam2unet.data.picture_modes import PICTURES, to_shown
from monai_sam2unet.errors import DataError

DEEP = np.array([[1000, 3000], [2000, 65000]], np.uint16)


def test_gray_keeps_sixteen_bits():
    np.testing.assert_array_equal(np.asarray(PICTURES["gray"](Image.fromarray(DEEP))), DEEP)
    with pytest.raises(DataError, match="8 bits a channel are expected"):
        PICTURES["rgb"](Image.fromarray(DEEP))


def test_labels_are_the_indices_of_a_palette():
    classes = np.array([[0, 1], [2, 3]], np.uint8)
    image = Image.fromarray(classes)
    image.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200, 9, 9, 9])
    np.testing.assert_array_equal(np.asarray(PICTURES["label"](image)), classes)
    assert not np.array_equal(np.asarray(PICTURES["gray"](image)), classes)


def test_sixteen_bits_are_stretched_to_be_looked_at():
    shown = np.asarray(to_shown(Image.fromarray(DEEP)))
    expected = np.round((DEEP - 1000.0) / 64000 * 255)
    for channel in range(3):
        np.testing.assert_array_equal(shown[..., channel], expected)
    flat = np.asarray(to_shown(Image.fromarray(np.full((2, 2), 700, np.uint16))))
    assert flat.shape == (2, 2, 3)
    assert not flat.any()


@pytest.mark.parametrize("picture", list(PICTURES))
def test_several_pages_are_refused(tmp_path, picture):
    pages = [Image.new("L", (4, 4), value) for value in (1, 2)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with Image.open(tmp_path / "a.tif") as image, pytest.raises(DataError, match="2 pages"):
        PICTURES[picture](image)
