# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from monai_sam2unet.metrics.foreground_distance import (
    FURTHEST,
    NEAREST,
    TILE,
    nearest_values,
    squared_along_rows,
    squared_distance,
    squared_distance_in_tiles,
)


def squared_by_scipy(masks):
    """Squared distances as ours: at most FURTHEST squared, which is also what images without foreground have."""
    squared = [
        np.rint(distance_transform_edt(~mask) ** 2) if mask.any() else np.full(mask.shape, 1e9) for mask in masks
    ]
    return np.minimum(np.stack(squared), FURTHEST**2)


def check_distance(masks, wanted=None, above=0, below=0):
    wanted = np.ones_like(masks) if wanted is None else wanted
    whole = [np.pad(x, ((0, 0), (above, below), (0, 0)), mode="constant") for x in (masks, wanted)]
    if wanted.all():
        whole[1][:] = True
    expected = squared_by_scipy(whole[0]) * whole[1]
    along_rows = squared_along_rows(torch.from_numpy(masks))
    chosen = torch.from_numpy(whole[1]).to(torch.uint8)
    n, height, width = chosen.shape
    # Tiles begin anywhere; these reach beyond the image by some rows.
    images, top, left = np.indices((n, -(-height // TILE[0]), width // TILE[1])).reshape(3, -1)
    top, left = top * TILE[0] - 3, left * TILE[1]
    padded_chosen, padded = (np.pad(x, ((0, 0), (3, TILE[0]), (0, 0))) for x in (whole[1], expected))

    def tiles(x):
        cut = [x[i, t + 3 : t + 3 + TILE[0], c : c + TILE[1]] for i, t, c in zip(images, top, left, strict=True)]
        return np.stack(cut) if cut else np.zeros((0, *TILE), x.dtype)

    in_tiles = squared_distance_in_tiles(
        along_rows,
        torch.from_numpy(tiles(padded_chosen).astype(np.uint8)),
        torch.from_numpy(images),
        torch.from_numpy(top - above),
        torch.from_numpy(left),
    )
    np.testing.assert_array_equal(in_tiles.numpy(), tiles(padded))
    np.testing.assert_array_equal(squared_distance(along_rows, chosen, above).numpy(), expected)


def check_nearest(masks):
    values = np.random.default_rng(0).integers(0, 256, masks.shape, dtype=np.uint8)
    found = nearest_values(torch.from_numpy(values), torch.from_numpy(masks)).numpy()
    fine = torch.from_numpy(values).float() / 256 + 1e-3
    found_fine = nearest_values(fine, torch.from_numpy(masks)).numpy()
    for i, one in enumerate(masks):
        if one.any():
            distance, (rows, columns) = distance_transform_edt(~one, return_indices=True)
            close = distance**2 <= NEAREST + 0.5
            np.testing.assert_array_equal(found[i][close], values[i][rows, columns][close])
            np.testing.assert_array_equal(found_fine[i][close], fine[i].numpy()[rows, columns][close])


SHARES = st.sampled_from([0.002, 0.05, 0.5, 0.95])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 80), st.integers(1, 4), SHARES, st.integers(0))
def test_distance_and_nearest_pixel_as_scipy_finds_them(height, width, n, share, seed):
    masks = np.random.default_rng(seed).random((n, height, width)) < share
    check_distance(masks)
    check_nearest(masks)


def far_masks():
    masks = np.zeros((3, 400, 330), bool)
    masks[0, 0, 0] = masks[1, 200, 329] = True
    masks[2, :, 100] = True
    return masks


def test_distances_beyond_what_is_kept():
    check_distance(far_masks())


@pytest.mark.parametrize(("above", "below"), [(0, 0), (7, 0), (0, 150), (150, 40)])
def test_rows_above_and_below_without_foreground(above, below):
    rng = np.random.default_rng(0)
    check_distance(rng.random((3, 20, 70)) < 0.01, above=above, below=below)


def test_only_what_is_wanted_is_looked_for():
    rng = np.random.default_rng(0)
    masks = np.zeros((2, 120, 200), bool)
    masks[:, 10:14, 20:30] = True
    wanted = np.zeros_like(masks)
    wanted[0, 100:, 150:] = True
    wanted[1, :20, :40] = True
    check_distance(masks, wanted)
    check_distance(masks, rng.random(masks.shape) < 0.001)
    check_distance(masks, np.zeros_like(masks))


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (3, 200), (200, 3)], ids=str)
def test_narrow_masks(shape):
    masks = np.random.default_rng(0).random((5, *shape)) < 0.2
    check_distance(masks)
    check_nearest(masks)


def test_ties_go_to_the_leftmost_and_then_to_the_uppermost():
    mask = torch.zeros(1, 9, 9, dtype=torch.bool)
    values = torch.zeros(1, 9, 9, dtype=torch.uint8)
    for value, (y, x) in enumerate([(4, 1), (1, 4), (7, 4), (4, 7)], start=1):
        mask[0, y, x] = True
        values[0, y, x] = value
    assert nearest_values(values, mask)[0, 4, 4] == 1
    mask[0, 4, 1] = False
    assert nearest_values(values, mask)[0, 4, 4] == 2
