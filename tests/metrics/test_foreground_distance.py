# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from monai_sam2unet.metrics.foreground_distance import FURTHEST, NEAREST, nearest_foreground, squared_distance


def check(masks):
    mask = torch.from_numpy(masks)
    wanted = torch.ones_like(mask)
    squared = squared_distance(mask, wanted)
    pixels, nearest = nearest_foreground(mask, squared)
    size = masks[0].size
    found = np.full(mask.numel(), -1)
    found[pixels.numpy()] = nearest.numpy() % size
    assert (nearest // size == pixels // size).all()
    for i, one in enumerate(masks):
        if not one.any():
            assert (squared[i] >= FURTHEST**2).all()
            continue
        distance, (rows, columns) = distance_transform_edt(~one, return_indices=True)
        expected = np.minimum(np.rint(distance**2), FURTHEST**2)
        np.testing.assert_array_equal(np.minimum(squared[i].numpy(), FURTHEST**2), expected)
        close = (distance**2 <= NEAREST + 0.5) & ~one
        own = found[i * size : (i + 1) * size].reshape(one.shape)
        np.testing.assert_array_equal(own[close], (rows * one.shape[1] + columns)[close])
        assert (own[~close] == -1).all()


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 60), st.integers(1, 80), st.integers(1, 4), st.sampled_from([0.002, 0.05, 0.5, 0.95]), st.integers(0)
)
def test_distance_and_nearest_pixel_as_scipy_finds_them(height, width, n, share, seed):
    rng = np.random.default_rng(seed)
    check(rng.random((n, height, width)) < share)


def test_distances_beyond_what_is_kept():
    masks = np.zeros((3, 400, 330), bool)
    masks[0, 0, 0] = masks[1, 200, 329] = True
    masks[2, :, 100] = True
    check(masks)


def test_only_what_is_wanted_must_be_exact():
    masks = np.zeros((2, 120, 200), bool)
    masks[:, 10:14, 20:30] = True
    mask = torch.from_numpy(masks)
    wanted = torch.zeros_like(mask)
    wanted[0, 100:, 150:] = True
    wanted[1, :20, :40] = True
    squared = squared_distance(mask, wanted).numpy()
    exact = np.rint(distance_transform_edt(~masks[0]) ** 2)
    for i in range(2):
        chosen = wanted[i].numpy() | (exact <= 16)
        np.testing.assert_array_equal(
            np.minimum(squared[i], FURTHEST**2)[chosen], np.minimum(exact, FURTHEST**2)[chosen]
        )
        assert (squared[i] >= np.minimum(exact, FURTHEST**2)).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (3, 200), (200, 3)], ids=str)
def test_narrow_masks(shape):
    rng = np.random.default_rng(0)
    check(rng.random((5, *shape)) < 0.2)
