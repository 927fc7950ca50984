# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve1d, distance_transform_edt

from monai_sam2unet.metrics import weighted_errors as module
from monai_sam2unet.metrics import windows
from monai_sam2unet.metrics.weighted_errors import weighted_errors


def expected(prediction, truth):
    """The paper's sums, by scipy, of one map in [0, 1]."""
    errors = np.abs(prediction - truth)
    distance, (rows, columns) = distance_transform_edt(~truth, return_indices=True)
    kernel = np.exp(-(np.arange(-3, 4) ** 2) / 50)
    kernel /= kernel.sum()
    smoothed = errors[rows, columns]
    for axis in (0, 1):
        smoothed = convolve1d(smoothed, kernel, axis=axis, mode="constant")
    outside = errors * (2 - 2 ** (-distance / 5))
    return np.minimum(smoothed, errors)[truth].sum(), outside[~truth].sum()


def some_maps(rng, height, width):
    """Errors everywhere, near the object only, in few far pixels, in one image row, and none."""
    y, x = np.mgrid[:height, :width]
    maps, truths = [], []
    for share in (1.0, 0.3, 0.002, 0.0):
        centre = rng.uniform(0, 1, 2) * (height, width)
        truth = np.hypot(y - centre[0], x - centre[1]) < rng.uniform(4, height / 3)
        levels = rng.integers(1, 256, (height, width)) * (rng.random((height, width)) < share)
        maps.append(np.where(truth, 255 - levels // 2, levels))
        truths.append(truth)
    truths.append(y == height - 1)
    maps.append(np.where(y == 0, 200, 0))
    return np.stack(maps).astype(np.uint8), np.stack(truths)


@pytest.mark.parametrize("few_tiles", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("shape", [(150, 170), (40, 300), (260, 33)], ids=str)
@pytest.mark.parametrize("maps_at_once", [1, 3, 100])
def test_sums_as_scipy_has_them(monkeypatch, few_tiles, shape, maps_at_once):
    monkeypatch.setattr(module, "FEW_TILES", few_tiles)
    monkeypatch.setattr(windows, "CACHED", maps_at_once * shape[0] * shape[1])
    levels, truths = some_maps(np.random.default_rng(0), *shape)
    truth = torch.from_numpy(truths)
    wanted = np.array([expected(level / 255, one) for level, one in zip(levels, truths, strict=True)])
    by_levels = weighted_errors(torch.from_numpy(levels), torch.full((5,), 255, dtype=torch.uint8), truth)
    np.testing.assert_allclose(torch.stack(by_levels, 1).numpy() / 255, wanted, rtol=6e-7)
    by_values = weighted_errors(torch.from_numpy(levels).float() / 255, torch.ones(5), truth)
    np.testing.assert_allclose(torch.stack(by_values, 1).numpy(), wanted, rtol=6e-7, atol=1e-5)


def test_without_foreground_all_errors_count_twice():
    prediction = torch.full((2, 30, 40), 10, dtype=torch.uint8)
    truth = torch.zeros(2, 30, 40, dtype=torch.bool)
    inside, outside = weighted_errors(prediction, torch.full((2,), 255, dtype=torch.uint8), truth)
    assert inside.tolist() == [0, 0]
    assert outside.tolist() == pytest.approx([2 * 12000] * 2, rel=6e-7)


def test_maps_that_are_not_contiguous():
    rng = np.random.default_rng(0)
    levels, truths = some_maps(rng, 60, 80)
    one = torch.full((5,), 255, dtype=torch.uint8)
    here = weighted_errors(torch.from_numpy(levels), one, torch.from_numpy(truths))
    turned = (torch.from_numpy(np.ascontiguousarray(x.transpose(0, 2, 1))).transpose(1, 2) for x in (levels, truths))
    prediction, truth = turned
    for a, b in zip(here, weighted_errors(prediction, one, truth), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
