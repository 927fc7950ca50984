# SPDX-License-Identifier: Apache-2.0
"""Tests of clDice against its definition in sets of pixels, MONAI's soft version, shapes worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.losses import SoftclDiceLoss
from PIL import Image
from scipy import ndimage
from skimage.morphology import skeletonize

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.metrics import CenterlineDiceMetric, compute_centerline_dice


def pixels(mask: np.ndarray) -> set[tuple[int, ...]]:
    return set(map(tuple, np.argwhere(mask).tolist()))


def reference(pred: np.ndarray, truth: np.ndarray) -> float:
    """The definition (Shit et al., equations 1 and 2), in sets of pixels."""
    line_of_pred, line_of_truth = pixels(skeletonize(pred)), pixels(skeletonize(truth))
    precision = len(line_of_pred & pixels(truth)) / len(line_of_pred)
    sensitivity = len(line_of_truth & pixels(pred)) / len(line_of_truth)
    return 0.0 if precision + sensitivity == 0 else 2 * precision * sensitivity / (precision + sensitivity)


def score(pred: np.ndarray, truth: np.ndarray, **options: str) -> float:
    masks = (torch.from_numpy(np.asarray(mask, dtype=np.float32))[None, None] for mask in (pred, truth))
    return float(compute_centerline_dice(*masks, **options))


def vessel(first: int, last: int, width: int = 1, row: int = 10) -> np.ndarray:
    mask = np.zeros((24, 60), bool)
    mask[row : row + width, first:last] = True
    return mask


def test_equals_the_definition_on_shapes(shape_pairs):
    scores = [score(pred, truth) for pred, truth in shape_pairs]
    assert scores == pytest.approx([reference(pred, truth) for pred, truth in shape_pairs], abs=1e-6)
    assert len(set(scores)) > 5


@pytest.mark.parametrize("name", ["Image_01L", "Image_07R"])
def test_equals_the_definition_on_real_vessels(shared_data, name):
    truth = np.asarray(Image.open(shared_data / "chasedb1" / "masks" / f"{name}.png")) > 127
    rng = np.random.default_rng(0)
    pred = ndimage.gaussian_filter(truth + rng.normal(0, 1, truth.shape), 2) > 0.4
    assert score(pred, truth) == pytest.approx(reference(pred, truth), abs=1e-6)
    assert 0.3 < score(pred, truth) < 0.95


def test_equals_monais_soft_version_on_lines_of_one_pixel():
    """Of straight ones, which are their own centerline, both hard and soft."""
    pred, truth = vessel(5, 40) | vessel(0, 20, row=4), vessel(15, 50) | vessel(0, 12, row=4).T[:24, :1]
    given = [torch.from_numpy(mask)[None, None].float() for mask in (pred, truth)]
    loss = SoftclDiceLoss(iter_=2, smooth_nr=0, smooth_dr=0, smooth=1e-12)(*given)
    assert score(pred, truth) == pytest.approx(1 - float(loss), abs=1e-6)


@pytest.mark.parametrize(
    ("pred", "truth", "expected"),
    [
        (vessel(5, 35), vessel(5, 35), 1),
        (vessel(5, 35), vessel(15, 45), 2 / 3),  # 20 of 30 pixels, either way
        (vessel(5, 35), vessel(5, 15), 2 * (1 / 3) / (1 / 3 + 1)),
        (vessel(5, 35, row=2), vessel(5, 35), 0),
    ],
)
def test_values_by_hand(pred, truth, expected):
    assert score(pred, truth) == pytest.approx(expected)
    assert score(truth, pred) == pytest.approx(expected)


def test_a_gap_costs_more_than_in_dice():
    """A thin vessel beside a thick one is few pixels, and half of the length."""
    truth = vessel(5, 55, width=9, row=2) | vessel(5, 55, row=18)
    pred = vessel(5, 55, width=9, row=2)
    dice = 2 * (pred & truth).sum() / (pred.sum() + truth.sum())
    assert dice > 0.94
    assert score(pred, truth) < 0.8


def test_width_hardly_counts():
    truth, pred = vessel(5, 35, width=3), vessel(5, 35, row=11)
    assert 2 * (pred & truth).sum() / (pred.sum() + truth.sum()) == 0.5
    assert score(pred, truth) == pytest.approx(1, abs=0.02)  # the centerline's ends bend to the corners


@pytest.mark.parametrize(
    ("shown", "predicted", "one_empty", "expected"),
    [
        (False, False, "zero", 1), (False, True, "zero", 0), (True, False, "zero", 0),
        (False, False, "ignore", 1), (False, True, "ignore", math.nan), (True, False, "ignore", math.nan),
    ],
)  # fmt: skip
def test_empty_masks(shown, predicted, one_empty, expected):
    nothing, line = np.zeros((24, 60), bool), vessel(5, 35)
    found = score(line if predicted else nothing, line if shown else nothing, one_empty=one_empty)
    assert found == pytest.approx(expected, nan_ok=True)


def test_volumes():
    rng = np.random.default_rng(1)
    pred, truth = (ndimage.gaussian_filter(rng.standard_normal((20, 24, 16)), 1.5) > 0.1 for _ in range(2))
    assert score(pred, truth) == pytest.approx(reference(pred, truth), abs=1e-6)
    cube = np.zeros((4, 4, 4), bool)
    cube[1:3, 1:3, 1:3] = True
    assert not skeletonize(cube).any()
    assert score(cube, cube) == 1


def test_channels_images_and_lists():
    lines = [torch.from_numpy(vessel(*ends))[None] for ends in ((5, 35), (15, 45), (5, 15))]
    truth = torch.stack([torch.cat([~lines[0], lines[0], lines[0]])] * 2)
    pred = torch.stack([torch.cat([~lines[1], lines[1], line]) for line in (lines[0], lines[2])])
    found = compute_centerline_dice(pred, truth)
    torch.testing.assert_close(found, torch.tensor([[2 / 3, 1], [2 / 3, 0.5]]))
    assert compute_centerline_dice(pred, truth, include_background=True).shape == (2, 3)
    metric = CenterlineDiceMetric(reduction="mean_batch")
    metric(list(MetaTensor(pred)), list(MetaTensor(truth)))
    torch.testing.assert_close(metric.aggregate(), torch.tensor([2 / 3, 0.75]))


def test_what_is_refused():
    mask = torch.ones(1, 1, 8, 8)
    with pytest.raises(ConfigError, match="one_empty must be one of zero, ignore"):
        compute_centerline_dice(mask, mask, one_empty="one")
    with pytest.raises(ConfigError, match="one_empty"):
        CenterlineDiceMetric(one_empty="one")
    with pytest.raises(DataError, match="binary"):
        compute_centerline_dice(0.3 * mask, mask)
