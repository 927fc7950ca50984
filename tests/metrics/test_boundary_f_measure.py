# SPDX-License-Identifier: Apache-2.0
"""Tests of the boundary F-measure against dilation by a disk in scikit-image and distance transforms in SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.morphology import dilation, disk

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.metrics import BoundaryFMeasureMetric, compute_boundary_scores


def outlines(*masks: np.ndarray) -> list[np.ndarray]:
    return [mask & ~ndimage.binary_erosion(mask) for mask in masks]


def scores(met_pred: np.ndarray, met_truth: np.ndarray, pred: np.ndarray, truth: np.ndarray) -> tuple[float, ...]:
    precision, recall = met_pred.sum() / pred.sum(), met_truth.sum() / truth.sum()
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall), precision, recall


def by_disk(pred: np.ndarray, truth: np.ndarray, radius: int) -> tuple[float, ...]:
    pred, truth = outlines(pred, truth)
    wide_pred, wide_truth = (dilation(np.pad(o, radius), disk(radius)) for o in (pred, truth))
    inner = tuple(slice(radius, radius + n) for n in pred.shape)
    return scores(pred & wide_truth[inner], truth & wide_pred[inner], pred, truth)


def by_distance(pred: np.ndarray, truth: np.ndarray, radius: float) -> tuple[float, ...]:
    pred, truth = outlines(pred, truth)
    near = [ndimage.distance_transform_edt(~o) <= radius + 1e-9 for o in (pred, truth)]
    return scores(pred & near[1], truth & near[0], pred, truth)


def tensors(*masks: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(mask)[None, None] for mask in masks]


def square(size: int = 30) -> torch.Tensor:
    mask = torch.zeros(1, 1, size, size)
    mask[..., 5:15, 5:15] = 1
    return mask


@pytest.mark.parametrize("radius", [0, 1, 2, 5])
def test_equals_dilation_by_a_disk(shape_pairs, radius):
    found_f = set()
    for pred, truth in shape_pairs:
        found = compute_boundary_scores(*tensors(pred, truth), tolerance=radius, unit="pixels")
        assert [float(s) for s in found] == pytest.approx(by_disk(pred, truth, radius), abs=1e-6)
        found_f.add(round(float(found.f_measure), 3))
    assert len(found_f) > 5


@pytest.mark.parametrize("radius", [0.5, math.sqrt(2), 1.9, math.sqrt(5), math.sqrt(13), 7.3, 1e6])
def test_equals_distance_transforms(shape_pairs, radius):
    for pred, truth in shape_pairs:
        found = compute_boundary_scores(*tensors(pred, truth), tolerance=radius, unit="pixels")
        assert [float(s) for s in found] == pytest.approx(by_distance(pred, truth, radius), abs=1e-6)


def test_equals_distance_transforms_on_real_masks(real_pairs):
    for pred, truth in real_pairs:
        found = compute_boundary_scores(*tensors(pred, truth))
        radius = math.ceil(0.008 * math.hypot(*truth.shape))
        assert radius > 3
        assert [float(s) for s in found] == pytest.approx(by_distance(pred, truth, radius), abs=1e-6)
        assert 0 < float(found.f_measure) < 1


def test_images_of_a_batch_do_not_touch_each_other():
    rng = np.random.default_rng(3)
    noise = ndimage.gaussian_filter(rng.standard_normal((8, 3, 40, 50)), (0, 0, 4, 4))
    pred, truth = torch.from_numpy(noise[:4] > 0), torch.from_numpy(noise[4:] > 0)
    pred[2], truth[3] = False, False
    together = compute_boundary_scores(pred, truth, tolerance=2, unit="pixels", include_background=True)
    for b in range(4):
        for c in range(3):
            alone = compute_boundary_scores(pred[b, c][None, None], truth[b, c][None, None], tolerance=2, unit="pixels")
            assert [float(s[b, c]) for s in together] == [float(s) for s in alone]
    assert torch.equal(
        compute_boundary_scores(pred, truth, tolerance=2, unit="pixels").f_measure, together.f_measure[:, 1:]
    )


@pytest.mark.parametrize(("share", "radius"), [(0.08, 4), (0.081, 5), (0.14, 7), (0, 0)])
def test_share_of_the_diagonal_is_rounded_up(share, radius):
    truth = torch.zeros(1, 1, 30, 40)  # the diagonal is 50; in floats, 0.14 * 50 is a little more than 7
    truth[..., 10, :] = 1
    assert compute_boundary_scores(truth.roll(radius, -2), truth, tolerance=share).f_measure == 1
    assert compute_boundary_scores(truth.roll(radius + 1, -2), truth, tolerance=share).f_measure == 0


def test_precision_and_recall_tell_too_much_from_too_little():
    truth = square()
    extra = truth.clone()
    extra[..., 20:28, 20:28] = 1
    much = compute_boundary_scores(extra, truth)
    assert much.recall == 1
    assert 0 < much.precision < 1
    little = compute_boundary_scores(truth, extra)
    assert (little.precision, little.recall) == (much.recall, much.precision)
    assert little.f_measure == much.f_measure


def test_empty_masks():
    empty, some = torch.zeros(1, 1, 30, 30), square()
    pred, truth = torch.cat([empty, empty, some, some]), torch.cat([empty, some, empty, some])
    for score in compute_boundary_scores(pred, truth):
        assert score.flatten().tolist() == [1, 0, 0, 1]
    for score in compute_boundary_scores(pred, truth, one_empty="ignore"):
        assert torch.equal(score.isnan().flatten(), torch.tensor([False, True, True, False]))
    metric = BoundaryFMeasureMetric(one_empty="ignore")
    metric(pred[1:3], truth[1:3])
    assert metric.aggregate().isnan()
    metric(pred[:1], truth[:1])
    assert metric.aggregate() == 1


def test_apart_is_zero():
    assert compute_boundary_scores(square().roll(14, -1), square(), tolerance=2, unit="pixels").f_measure == 0


def test_lists_of_different_sizes():
    masks = [square(30)[0], square(47)[0]]
    metric = BoundaryFMeasureMetric(tolerance=0, unit="pixels")
    metric([masks[0], masks[1].roll(1, -1)], masks)
    # A square of 10 pixels has 36 on its outline; moved by one, 9 of the upper, of the lower row each coincide.
    assert metric.aggregate("none").flatten().tolist() == pytest.approx([1, 18 / 36])
    assert float(metric.aggregate()) == pytest.approx(0.75)


def test_the_input_is_left_as_it_was():
    pred, truth = square().roll(2, -1), square()
    before = pred.clone(), truth.clone()
    compute_boundary_scores(pred, truth)
    assert torch.equal(pred, before[0])
    assert torch.equal(truth, before[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tolerance": -1, "unit": "pixels"}, "of at least 0 pixels"),
        ({"tolerance": 2}, r"in \[0, 1\], a share of the image's diagonal"),
        ({"tolerance": math.nan}, "tolerance must be"),
        ({"unit": "mm"}, "unit must be one of diagonal, pixels"),
        ({"one_empty": "diagonal"}, "one_empty must be one of zero, ignore"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        BoundaryFMeasureMetric(**options)


def test_volumes_are_an_error():
    with pytest.raises(DataError, match="for volumes take NSD"):
        BoundaryFMeasureMetric()(torch.ones(1, 1, 4, 4, 4), torch.ones(1, 1, 4, 4, 4))
