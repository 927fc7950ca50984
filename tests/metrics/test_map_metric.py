# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch
from monai.data import MetaTensor
from monai.metrics import DiceMetric, MAEMetric, MeanIoU

from monai_sam2unet import metrics
from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.metrics import compute_map_scores

ONE_VALUE = {
    "SMeasure": "s_measure",
    "WeightedFMeasure": "weighted_f_measure",
    "MeanAbsoluteError": "mean_absolute_error",
}
CURVES = {
    "EMeasure": "e_measure",
    "FMeasure": "f_measure",
    "DiceOverThresholds": "dice_over_thresholds",
    "IoUOverThresholds": "iou_over_thresholds",
    "BalancedErrorRate": "balanced_error_rate",
}
ALL = ONE_VALUE | CURVES


def make(n=5, c=2, size=(24, 30), seed=0):
    generator = torch.Generator().manual_seed(seed)
    truth = (torch.rand(n, c, *size, generator=generator) > 0.7).float()
    return (0.6 * torch.rand(n, c, *size, generator=generator) + 0.4 * truth), truth


def metric_of(name, **options):
    return getattr(metrics, f"{name}Metric")(**options)


def function_of(name):
    return getattr(metrics, f"compute_{ALL[name]}")


@pytest.mark.parametrize("name", ALL)
def test_function_metric_and_all_scores_at_once_agree(name):
    y_pred, y = make()
    scores = function_of(name)(y_pred, y)
    assert scores.shape == (5, 2)
    assert scores.dtype == torch.float64
    metric = metric_of(name)
    metric(y_pred[:2], y[:2])
    metric(y_pred[2:], y[2:])
    torch.testing.assert_close(metric.get_buffer(), scores)
    assert metric.aggregate().item() == pytest.approx(scores.mean().item(), abs=1e-6)
    together = compute_map_scores(y_pred, y)
    names = {
        "SMeasure": "s_measure",
        "WeightedFMeasure": "weighted_f",
        "MeanAbsoluteError": "mae",
        "BalancedErrorRate": "balanced_error_rate",
    }
    if name in names:
        expected = together.values[names[name]]
    else:
        key = {"EMeasure": "e", "FMeasure": "f", "DiceOverThresholds": "dice", "IoUOverThresholds": "iou"}[name]
        expected = together.curves[key].mean(1)
    torch.testing.assert_close(scores.flatten(), expected)


@pytest.mark.parametrize("name", ALL)
def test_images_of_different_sizes_as_lists(name):
    first, second = make(1, 1, (20, 31)), make(1, 1, (9, 50), seed=1)
    metric = metric_of(name)
    metric([first[0][0], MetaTensor(second[0][0])], [first[1][0], second[1][0]])
    alone = torch.cat([function_of(name)(*first), function_of(name)(*second)])
    torch.testing.assert_close(metric.get_buffer(), alone)


@pytest.mark.parametrize("name", ALL)
def test_more_predictions_than_truths_are_refused(name):
    y_pred, y = make()
    with pytest.raises(DataError, match="Each prediction needs its truth"):
        metric_of(name)(list(y_pred), list(y[:3]))


@pytest.mark.parametrize("name", ALL)
def test_reductions_are_monais(name):
    y_pred, y = make()
    scores = function_of(name)(y_pred, y)
    metric = metric_of(name, reduction="mean_batch")
    metric(y_pred, y)
    torch.testing.assert_close(metric.aggregate(), scores.mean(0).float())
    torch.testing.assert_close(metric.aggregate(reduction="mean_channel"), scores.mean(1).float())
    torch.testing.assert_close(metric.aggregate(reduction="none"), scores)
    metric.reset()
    with pytest.raises(DataError, match="Nothing has been measured"):
        metric.aggregate()


@pytest.mark.parametrize("name", ALL)
def test_images_without_object_can_be_ignored(name):
    y_pred, y = make(4, 1)
    y[1] = 0
    scores = function_of(name)(y_pred, y, empty_truth="ignore")
    assert scores.isnan().flatten().tolist() == [False, True, False, False]
    metric = metric_of(name, empty_truth="ignore")
    metric(y_pred, y)
    assert metric.aggregate().item() == pytest.approx(scores.nanmean().item(), abs=1e-6)
    only_empty = metric_of(name, empty_truth="ignore")
    only_empty(y_pred[1:2], y[1:2])
    assert math.isnan(only_empty.aggregate().item())


@pytest.mark.parametrize("name", ["SMeasure", "MeanAbsoluteError", "EMeasure"])
def test_measures_that_are_defined_without_object_take_no_number_for_it(name):
    with pytest.raises(ConfigError, match="'ignore', 'score'"):
        metric_of(name, empty_truth=1)


@pytest.mark.parametrize("name", ["WeightedFMeasure", "FMeasure", "DiceOverThresholds", "IoUOverThresholds"])
def test_ratios_of_nothing_count_what_is_asked(name):
    black, empty = torch.zeros(1, 1, 8, 8, dtype=torch.uint8), torch.zeros(1, 1, 8, 8)
    options = {} if name == "WeightedFMeasure" else {"mode": "fixed"}
    assert function_of(name)(black, empty, empty_truth=0, **options).item() == 0
    assert function_of(name)(black, empty, empty_truth=1, **options).item() == 1
    black[..., 3] = 255
    assert function_of(name)(black, empty, empty_truth=1, **options).item() == 0


@pytest.mark.parametrize("name", CURVES)
def test_max_is_that_of_the_mean_curve_and_each_image_counts_at_its_threshold(name):
    y_pred, y = make(6, 2)
    metric = metric_of(name, mode="max")
    curves = torch.cat([metric(y_pred[:4], y[:4]), metric(y_pred[4:], y[4:])])
    assert curves.shape == (6, 2, 256)
    lowest = name == "BalancedErrorRate"
    best = curves.mean(0).amin(1) if lowest else curves.mean(0).amax(1)
    torch.testing.assert_close(metric.aggregate(reduction="mean_batch"), best.float())
    assert metric.get_buffer().shape == (6, 2)
    torch.testing.assert_close(metric.get_buffer().mean(0), best)


def test_modes_differ_as_they_should():
    y_pred, y = make(3, 1)
    scores = {mode: metrics.compute_dice_over_thresholds(y_pred, y, mode=mode) for mode in ("mean", "max", "adaptive")}
    assert (scores["max"].mean() > scores["mean"].mean()).item()
    scaled = (y_pred - y_pred.amin((2, 3), True)) / (y_pred.amax((2, 3), True) - y_pred.amin((2, 3), True))
    cut = (scaled >= (2 * scaled.mean((2, 3), True)).clamp(max=1)).float()
    dice = 2 * (cut * y).sum((2, 3)) / (cut.sum((2, 3)) + y.sum((2, 3)))
    torch.testing.assert_close(scores["adaptive"], dice.double(), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("name", "monais"), [("DiceOverThresholds", DiceMetric()), ("IoUOverThresholds", MeanIoU())])
def test_fixed_threshold_without_scaling_is_monais_metric(name, monais):
    y_pred, y = make()
    expected = monais((y_pred > 0.6).float(), y)
    ours = function_of(name)(y_pred, y, mode="fixed", threshold=0.6, normalize=False)
    torch.testing.assert_close(ours.float(), expected)


def test_error_without_scaling_is_monais_metric():
    y_pred, y = make(4, 1)
    expected = MAEMetric()(y_pred, y)
    torch.testing.assert_close(metrics.compute_mean_absolute_error(y_pred, y, normalize=False).float(), expected)


def test_scaling_makes_a_mask_of_a_whisper():
    """Why the papers' numbers say nothing about probabilities."""
    truth = torch.zeros(1, 1, 32, 32)
    truth[..., 8:24, 8:24] = 1
    whisper = 0.001 * truth
    assert metrics.compute_dice_over_thresholds(whisper, truth, mode="fixed").item() == 1
    assert metrics.compute_dice_over_thresholds(whisper, truth, mode="fixed", normalize=False).item() == 0


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("SMeasure", {"alpha": 1.5}, "alpha must lie in"),
        ("WeightedFMeasure", {"beta2": 0}, "beta2 must be above 0"),
        ("FMeasure", {"beta2": -1}, "beta2 must be above 0"),
        ("EMeasure", {"mode": "median"}, "mode must be one of mean, max, adaptive, fixed"),
        ("IoUOverThresholds", {"threshold": 2}, "threshold must lie in"),
        ("DiceOverThresholds", {"empty_truth": "skip"}, "empty_truth must be one of 'ignore', 0, 1"),
        ("SMeasure", {"reduction": "median"}, "reduction must be one of"),
    ],
)
def test_wrong_options_are_named(name, options, message):
    with pytest.raises(ConfigError, match=message):
        metric_of(name, **options)


def test_a_truth_is_needed():
    with pytest.raises(DataError, match="truth"):
        metrics.SMeasureMetric()(torch.rand(1, 1, 4, 4))
