# SPDX-License-Identifier: Apache-2.0
"""Tests of drawing masks over images."""

from __future__ import annotations

import numpy as np
import pytest

from monai_sam2unet.evaluation import draw_overlay

GREEN, YELLOW = (0, 200, 80), (255, 220, 0)


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (20, 26, 3)).astype(np.uint8)


def blob(seed):
    """A ragged mask that touches the frame."""
    rows, columns = np.mgrid[:20, :26]
    mask = (rows - 6) ** 2 + (columns - 4 * seed) ** 2 < 60
    mask[np.random.default_rng(seed).integers(0, 20, 3), np.random.default_rng(seed).integers(0, 26, 3)] ^= True
    return mask


def outline(mask):
    """Pixels of the mask at most two steps, up, down, left or right, from a pixel of the frame outside it."""
    outside = np.argwhere(~mask)
    found = np.zeros_like(mask)
    for point in np.argwhere(mask):
        found[tuple(point)] = len(outside) > 0 and np.abs(outside - point).sum(1).min() <= 2
    return found


@pytest.mark.parametrize("seed", [1, 2, 5])
@pytest.mark.parametrize("alpha", [0.35, 0.0, 1.0])
def test_area_and_outlines(image, seed, alpha):
    prediction, truth = blob(seed), blob(seed + 1)
    before = image.copy()
    out = draw_overlay(image, prediction, truth, alpha)
    expected = image.astype(float)
    expected[prediction] = (1 - alpha) * expected[prediction] + alpha * np.array(GREEN)
    expected[outline(prediction)] = GREEN
    expected[outline(truth)] = YELLOW
    assert out.dtype == np.uint8
    np.testing.assert_allclose(out.astype(float), expected, atol=0.51)
    np.testing.assert_array_equal(image, before)


def test_without_truth_no_yellow(image):
    out = draw_overlay(image * 0, blob(2))
    assert not (out == YELLOW).all(2).any()
    assert (out[~blob(2)] == 0).all()


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.float32])
def test_masks_of_any_type(image, dtype):
    expected = draw_overlay(image, blob(1), blob(2))
    np.testing.assert_array_equal(draw_overlay(image, blob(1).astype(dtype), blob(2).astype(dtype)), expected)


def test_empty_and_full_masks(image):
    np.testing.assert_array_equal(draw_overlay(image, np.zeros((20, 26)), np.zeros((20, 26))), image)
    full = draw_overlay(image, np.ones((20, 26)))  # the frame is no outline
    np.testing.assert_allclose(full, 0.65 * image + 0.35 * np.array(GREEN), atol=0.51)


@pytest.mark.parametrize("which", [0, 1])
def test_masks_of_another_size(image, which):
    masks = [np.ones((20, 26)), np.ones((20, 26))]
    masks[which] = np.ones((26, 20))
    with pytest.raises(ValueError, match=r"\(26, 20\) cannot be drawn over an image of \(20, 26\)"):
        draw_overlay(image, *masks)


def test_each_class_has_its_colour(image):
    classes = np.zeros(image.shape[:2], np.uint8)
    for number in (1, 2, 3):
        classes[:, 12 * number : 12 * number + 8] = number
    drawn = draw_overlay(image, classes, alpha=1.0, colours=[(1, 2, 3), (4, 5, 6)])
    for number, colour in ((1, (1, 2, 3)), (2, (4, 5, 6)), (3, (1, 2, 3))):
        assert (drawn[classes == number] == colour).all()
    np.testing.assert_array_equal(drawn[classes == 0], image[classes == 0])
