# SPDX-License-Identifier: Apache-2.0
"""Tests of the normalised surface Dice against distance transforms, and of empty masks and tolerances."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy import ndimage

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.metrics import NormalizedSurfaceDiceMetric, compute_normalized_surface_dice


def reference(pred: np.ndarray, truth: np.ndarray, tolerance: float, spacing=None) -> float:
    """Pixels of both outlines that the transform of the distance to the other puts within the tolerance."""
    outlines = [mask & ~ndimage.binary_erosion(mask) for mask in (pred, truth)]
    to = [ndimage.distance_transform_edt(~outline, sampling=spacing) for outline in outlines]
    within = [(to[1 - n][outlines[n]] <= tolerance + 1e-9).sum() for n in range(2)]
    return sum(within) / sum(outline.sum() for outline in outlines)


def tensors(*masks: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(np.asarray(mask, dtype=np.float32))[None, None] for mask in masks]


def block(*shape: int, start: int = 2, stop: int = 6) -> torch.Tensor:
    """(1, ...) with ones in a block."""
    mask = torch.zeros(1, *shape)
    mask[(slice(None), *(slice(start, stop) for _ in shape))] = 1
    return mask


@pytest.mark.parametrize("tolerance", [0, 1.5, 3])
@pytest.mark.parametrize("spacing", [None, (0.5, 0.5), (0.7, 2.5)])
def test_equals_distance_transforms_on_shapes(shape_pairs, spacing, tolerance):
    scores = set()
    for pred, truth in shape_pairs:
        unit = "pixels" if spacing is None else "mm"
        found = compute_normalized_surface_dice(*tensors(pred, truth), tolerance, unit=unit, spacing=spacing)
        assert float(found) == pytest.approx(reference(pred, truth, tolerance, spacing), abs=1e-5)
        scores.add(round(float(found), 3))
    assert len(scores) > 5


def test_equals_distance_transforms_on_real_masks(real_pairs):
    for pred, truth in real_pairs:
        found = float(compute_normalized_surface_dice(*tensors(pred, truth), 0.8, spacing=(0.3, 0.4)))
        assert found == pytest.approx(reference(pred, truth, 0.8, (0.3, 0.4)), abs=1e-5)
        assert 0 < found < 1


def test_equals_distance_transforms_on_volumes():
    rng = np.random.default_rng(1)
    noise = [ndimage.gaussian_filter(rng.standard_normal((20, 24, 9)), 2) for _ in range(2)]
    pred, truth = (n > np.quantile(n, 0.8) for n in noise)
    found = compute_normalized_surface_dice(*tensors(pred, truth), 2.0, spacing=(0.7, 0.7, 5.0))
    assert float(found) == pytest.approx(reference(pred, truth, 2.0, (0.7, 0.7, 5.0)), abs=1e-5)


@pytest.mark.parametrize("size", [0.1, 0.3, 0.7, 1.1])
def test_a_distance_of_exactly_the_tolerance_is_within_it(size):
    truth = torch.zeros(1, 1, 120, 900)
    truth[..., 50:60, 800:820] = 1
    pred = truth.roll(3, -1)
    assert float(compute_normalized_surface_dice(pred, truth, 3 * size, spacing=size)) == 1
    assert float(compute_normalized_surface_dice(pred, truth, 2.99 * size, spacing=size)) < 1


def test_empty_masks():
    empty, some = torch.zeros(1, 30, 40), block(30, 40)
    pred, truth = torch.stack([empty, empty, some, some]), torch.stack([empty, some, empty, some])
    found = compute_normalized_surface_dice(pred, truth, 1, unit="pixels").flatten()
    assert found.tolist() == [1, 0, 0, 1]
    ignored = compute_normalized_surface_dice(pred, truth, 1, unit="pixels", one_empty="ignore").flatten()
    assert torch.equal(ignored.isnan(), torch.tensor([False, True, True, False]))
    metric = NormalizedSurfaceDiceMetric(1, unit="pixels", one_empty="ignore")
    metric(pred[1:3], truth[1:3])
    assert metric.aggregate().isnan()


def test_a_tolerance_for_each_channel():
    background, first, second = block(30, 30, start=0, stop=30), block(30, 30), block(30, 30, start=10, stop=15)
    truth = torch.cat([background, first, second])[None]
    pred = torch.cat([background, first.roll(2, -1), second.roll(2, -1)])[None]
    metric = NormalizedSurfaceDiceMetric([2, 1], unit="pixels", reduction="none")
    metric(pred, truth)
    assert metric.aggregate()[0, 0] == 1
    assert 0 < metric.aggregate()[0, 1] < 1
    # The first class is missed: the tolerance of the second one must still be its own.
    pred[:, 1] = 0
    metric.reset()
    metric(pred, truth)
    missed = metric.aggregate()[0]
    assert missed[0] == 0
    assert missed[1] == compute_normalized_surface_dice(pred[:, 2:], truth[:, 2:], 1, unit="pixels")[0, 0]
    every = compute_normalized_surface_dice(pred, truth, [0, 2, 2], unit="pixels", include_background=True)
    assert every.tolist() == [[1, 0, 1]]
    with pytest.raises(ConfigError, match="3 values for 2 measured channels"):
        compute_normalized_surface_dice(pred, truth, [1, 2, 3], unit="pixels")


def test_millimetres_are_those_of_the_affine():
    label = MetaTensor(block(20, 20), affine=torch.diag(torch.tensor([1.0, 0.4, 5.0, 1.0])))
    pred = label.as_tensor().roll(2, -1)
    metric = NormalizedSurfaceDiceMetric(0.8)
    metric([pred], [label])
    assert metric.aggregate() == 1
    with pytest.raises(DataError, match="size of a pixel"):
        metric([pred], [label.as_tensor()])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tolerance": -1}, "tolerance must be a number of at least 0"),
        ({"tolerance": math.inf}, "tolerance must be"),
        ({"tolerance": []}, "tolerance must be"),
        ({"tolerance": 1, "unit": "diagonal"}, "unit must be one of mm, pixels"),
        ({"tolerance": 1, "one_empty": "diagonal"}, "one_empty must be one of zero, ignore"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        NormalizedSurfaceDiceMetric(**options)
