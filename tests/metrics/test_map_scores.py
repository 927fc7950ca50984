# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.metrics import compute_map_scores, map_statistics, to_eight_bit

py_sod_metrics = pytest.importorskip("py_sod_metrics", reason="pysodmetrics comes with the extra `test`")

ALL = {"with_dynamic": True, "with_adaptive": True, "with_binary": True}


def scores_of_pysodmetrics(prediction, truth, normalize=True):
    """Values and curves by our names; their curves begin with the highest threshold."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _scores_of_pysodmetrics(prediction, truth, normalize)


def _scores_of_pysodmetrics(prediction, truth, normalize):
    handlers = {
        "f": py_sod_metrics.FmeasureHandler(beta=0.3, **ALL),
        "dice": py_sod_metrics.DICEHandler(**ALL),
        "iou": py_sod_metrics.IOUHandler(**ALL),
        "ber": py_sod_metrics.BERHandler(**ALL),
        "precision": py_sod_metrics.PrecisionHandler(**ALL),
        "recall": py_sod_metrics.RecallHandler(**ALL),
    }
    metrics = {
        "s": py_sod_metrics.Smeasure(),
        "e": py_sod_metrics.Emeasure(),
        "w": py_sod_metrics.WeightedFmeasure(),
        "mae": py_sod_metrics.MAE(),
        "f": py_sod_metrics.FmeasureV2(handlers),
    }
    for metric in metrics.values():
        metric.step(prediction, truth, normalize)
    f, e = metrics["f"].get_results(), metrics["e"].get_results()["em"]
    values = {
        "s_measure": metrics["s"].get_results()["sm"],
        "weighted_f": metrics["w"].get_results()["wfm"],
        "mae": metrics["mae"].get_results()["mae"],
        "e_adaptive": e["adp"],
        "f_adaptive": f["f"]["adaptive"],
        "dice_adaptive": f["dice"]["adaptive"],
        "iou_adaptive": f["iou"]["adaptive"],
        "dice_fixed": f["dice"]["binary"],
        "iou_fixed": f["iou"]["binary"],
        "balanced_error_rate": f["ber"]["binary"],
    }
    curves = {"e": e["curve"]} | {name: f[name]["dynamic"] for name in ("f", "dice", "iou", "precision", "recall")}
    return values, {name: curve[::-1] for name, curve in curves.items()}


def check(prediction, truth, normalize=True):
    """Compare every value and curve; where theirs is not a number ours still is."""
    values, curves = scores_of_pysodmetrics(prediction, truth, normalize)
    y = torch.from_numpy(truth.copy())[None, None]
    ours = compute_map_scores(
        torch.from_numpy(prediction.copy())[None, None], y if y.dtype == torch.bool else y / 255, normalize=normalize
    )
    assert ours.values.keys() == values.keys()
    assert ours.curves.keys() == curves.keys()
    pixels = prediction.size
    for name, value in values.items():
        if name == "s_measure" and (math.isnan(value) or (normalize and prediction.min() == prediction.max() == 77)):
            # Theirs is NaN where the centroid lies in the last row or column; and of constant maps it hangs on whether
            # the mean of equal numbers comes out as the same number. Constant maps of 1/4 are compared below.
            assert 0 <= ours.values[name].item() <= 1
        elif not (pixels == 1 and name == "e_adaptive"):
            assert ours.values[name].item() == pytest.approx(value, abs=1e-6), name
    for name, curve in curves.items():
        if not (pixels == 1 and name == "e"):
            np.testing.assert_allclose(ours.curves[name][0].numpy(), curve, rtol=0, atol=1e-6, err_msg=name)


def noise(rng, shape, low=0, high=256):
    return rng.integers(low, high, shape).astype(np.uint8)


def some_truths(rng, shape):
    few = np.zeros(shape, np.uint8)
    few[rng.integers(0, shape[0], 3), rng.integers(0, shape[1], 3)] = 255
    block = np.zeros(shape, np.uint8)
    block[shape[0] // 4 : shape[0] // 2 + 1, shape[1] // 3 :] = 255
    return {
        "few pixels": few,
        "block": block,
        "salt and pepper": ((rng.random(shape) < 0.5) * 255).astype(np.uint8),
        "soft": noise(rng, shape),
        "empty": np.zeros(shape, np.uint8),
        "full": np.full(shape, 255, np.uint8),
    }


SHAPES = [(1, 1), (1, 2), (2, 1), (1, 40), (33, 1), (5, 7), (64, 64), (31, 97), (90, 40)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equal_to_pysodmetrics_on_noise_and_edge_cases(shape):
    rng = np.random.default_rng(sum(shape))
    maps = {
        "noise": noise(rng, shape),
        "narrow": noise(rng, shape, 60, 110),
        "black": np.zeros(shape, np.uint8),
        "gray": np.full(shape, 77, np.uint8),
        "white": np.full(shape, 255, np.uint8),
    }
    for prediction in maps.values():
        for truth in some_truths(rng, shape).values():
            check(prediction, truth)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equal_to_pysodmetrics_on_floating_point_maps(shape):
    rng = np.random.default_rng(sum(shape))
    for truth in some_truths(rng, shape).values():
        check(rng.random(shape), truth > 128, normalize=False)
        check(np.full(shape, 0.25), truth > 128, normalize=False)


@pytest.mark.parametrize("seed", range(4))
def test_equal_to_pysodmetrics_on_smooth_maps(seed):
    """Blobs, with errors far from the object, where distances of more than a hundred pixels matter."""
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.normal(size=(300, 260)), 18)
    truth = ((field > np.quantile(field, 0.97)) * 255).astype(np.uint8)
    other = gaussian_filter(rng.normal(size=(300, 260)), 12)
    prediction = 255 / (1 + np.exp(-3 * (other + field) / (other + field).std()))
    check(prediction.astype(np.uint8), truth)


@pytest.mark.parametrize("name", ["CVC-300", "CVC-ClinicDB", "Kvasir"])
def test_equal_to_pysodmetrics_on_real_truths_at_native_size(shared_data, name):
    files = sorted((shared_data / "polyp" / "TestDataset" / name / "masks").iterdir())[:12:4]
    rng = np.random.default_rng(0)
    for file in files:
        with Image.open(file) as opened:
            truth = np.asarray(opened.convert("L"))
        shifted = np.roll(truth, (9, -14), (0, 1)).astype(float)
        soft = gaussian_filter(shifted, 6) * 0.8 + 40 * rng.random(truth.shape)
        check(soft.astype(np.uint8), truth)


def test_a_batch_is_scored_as_its_images_are():
    rng = np.random.default_rng(0)
    maps = torch.from_numpy(noise(rng, (6, 2, 40, 50)))
    truths = torch.from_numpy(rng.random((6, 2, 40, 50))) > 0.7
    together = compute_map_scores(maps, truths)
    for i in range(6):
        for c in range(2):
            alone = compute_map_scores(maps[i : i + 1, c : c + 1], truths[i : i + 1, c : c + 1])
            for name, value in alone.values.items():
                assert together.values[name][2 * i + c].item() == pytest.approx(value.item(), abs=1e-9)
            for name, curve in alone.curves.items():
                torch.testing.assert_close(together.curves[name][2 * i + c], curve[0], rtol=0, atol=1e-9)


def test_large_batches_are_worked_on_in_parts(monkeypatch):
    rng = np.random.default_rng(0)
    maps = torch.from_numpy(noise(rng, (7, 1, 30, 30)))
    truths = torch.from_numpy(rng.random((7, 1, 30, 30))) > 0.7
    whole = compute_map_scores(maps, truths)
    sizes = []
    made = map_statistics.LevelMaps.__init__
    monkeypatch.setattr(
        map_statistics.LevelMaps,
        "__init__",
        lambda self, levels, *args: sizes.append(len(levels)) or made(self, levels, *args),
    )
    monkeypatch.setattr(map_statistics, "CHUNK", 2 * 30 * 30)
    parts = compute_map_scores(maps, truths)
    assert sizes == [2, 2, 2, 1]
    for name, value in whole.values.items():
        torch.testing.assert_close(parts.values[name], value, rtol=0, atol=1e-9)


def test_eight_bits_and_floating_point_agree():
    """Levels divided by 255 are the same map; only what is rounded down to a level again may differ."""
    rng = np.random.default_rng(0)
    levels = torch.from_numpy(noise(rng, (3, 1, 64, 64)))
    levels[:, :, 0, :2] = torch.tensor([0, 255], dtype=torch.uint8)
    truths = torch.from_numpy(rng.random((3, 1, 64, 64))) > 0.7
    by_levels = compute_map_scores(levels, truths)
    by_values = compute_map_scores(levels.double() / 255, truths)
    for name, value in by_levels.values.items():
        torch.testing.assert_close(by_values.values[name], value, rtol=0, atol=1e-7, msg=name)


@pytest.mark.parametrize(("empty_truth", "black", "alarm"), [(0, 0.0, 0.0), (1, 1.0, 0.0), ("ignore", None, None)])
def test_what_an_image_without_object_counts(empty_truth, black, alarm):
    maps = torch.zeros(2, 1, 32, 32, dtype=torch.uint8)
    maps[1, :, 4:9, 4:9] = 255
    scores = compute_map_scores(maps, torch.zeros(2, 1, 32, 32), empty_truth=empty_truth)
    for name in ("weighted_f", "dice_fixed", "iou_fixed"):
        nothing, something = scores.values[name].tolist()
        if empty_truth == "ignore":
            assert math.isnan(nothing)
            assert math.isnan(something)
        else:
            assert (nothing, something) == (black, alarm)
    assert scores.values["s_measure"].isnan().all() == (empty_truth == "ignore")
    assert scores.curves["dice"].isnan().all() == (empty_truth == "ignore")
    if empty_truth == 1:
        # Of the black map nothing is predicted at any threshold but 0, where all of it is.
        assert scores.curves["dice"][0].tolist() == [0.0] + [1.0] * 255


def test_what_an_image_without_object_counts_is_checked():
    maps = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    for wrong in (0.5, "zero", True, None):
        with pytest.raises(ConfigError, match="empty_truth must be one of 'ignore', 0, 1"):
            compute_map_scores(maps, maps, empty_truth=wrong)


def test_to_eight_bit_stores_maps_as_the_released_script_does():
    maps = torch.rand(2, 1, 20, 30, generator=torch.Generator().manual_seed(0)) * 0.001
    levels = to_eight_bit(maps)
    for image, level in zip(maps.numpy(), levels.numpy(), strict=True):
        res = (image - image.min()) / (image.max() - image.min() + 1e-8)
        np.testing.assert_array_equal(level, (res * 255).astype(np.uint8))
    assert to_eight_bit(torch.full((1, 1, 3, 3), 0.7)).max() == 0


@pytest.mark.parametrize(
    ("y_pred", "y", "message"),
    [
        (torch.rand(1, 1, 4, 4), torch.rand(1, 1, 4, 5), "one shape"),
        (torch.rand(1, 4, 4), torch.rand(1, 4, 4), "one shape"),
        (torch.rand(1, 1, 0, 4), torch.rand(1, 1, 0, 4), "no map with at least one pixel"),
        (torch.randn(1, 1, 9, 9), torch.ones(1, 1, 9, 9), "sigmoid"),
        (torch.full((1, 1, 2, 2), float("nan")), torch.ones(1, 1, 2, 2), r"\[0, 1\]"),
        (torch.ones(1, 1, 2, 2, dtype=torch.int64), torch.ones(1, 1, 2, 2), "uint8, bool or floating point"),
        (torch.rand(1, 1, 2, 2), torch.full((1, 1, 2, 2), 255, dtype=torch.uint8), "Divide 8-bit masks by 255"),
    ],
)
def test_wrong_input_is_named(y_pred, y, message):
    with pytest.raises(DataError, match=message):
        compute_map_scores(y_pred, y)


@pytest.mark.parametrize("options", [{"alpha": 7}, {"threshold": 9}, {"beta2": -1}, {"beta2": math.inf}], ids=str)
def test_wrong_options_are_named(options):
    maps = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    with pytest.raises(ConfigError, match=f"{next(iter(options))} must"):
        compute_map_scores(maps, maps, **options)


@pytest.mark.parametrize("level", [1, 77, 254])
def test_the_s_measure_of_a_constant_map_follows_the_formula(level):
    """PySODMetrics counts 0 or 1 for a part, as rounding will have it: a constant does not vary, nor does the truth."""
    truth = np.zeros((40, 60), bool)
    truth[10:20, 10:25] = True
    constant = np.full(truth.shape, level, np.uint8)
    value = level / 255
    rows, columns = (axis.mean().round() + 1 for axis in np.nonzero(truth))
    parts = [half for rows_of in np.split(truth, [int(rows)]) for half in np.split(rows_of, [int(columns)], 1)]
    region = sum(part.size for part in parts if part.all() or not part.any()) / truth.size
    share = truth.mean()
    score = share * 2 * value / (value**2 + 1) + (1 - share) * 2 * (1 - value) / ((1 - value) ** 2 + 1)
    for maps in (torch.from_numpy(constant)[None, None], torch.full((1, 1, 40, 60), value)):
        ours = compute_map_scores(maps, torch.from_numpy(truth)[None, None]).values["s_measure"].item()
        assert ours == pytest.approx((score + region) / 2, abs=1e-6)


def test_many_small_maps_do_not_fill_the_memory(monkeypatch):
    sizes = []
    count = map_statistics._count
    monkeypatch.setattr(
        map_statistics, "_count", lambda levels, *others: sizes.append(len(levels)) or count(levels, *others)
    )
    maps = torch.randint(0, 256, (3000, 1, 4, 4), dtype=torch.uint8)
    scores = compute_map_scores(maps, maps > 128)
    assert len(scores.values["mae"]) == 3000
    assert max(sizes) <= 128


def test_no_maps_are_an_error_and_not_an_empty_score():
    with pytest.raises(DataError, match="no map"):
        compute_map_scores(torch.zeros(0, 1, 4, 4), torch.zeros(0, 1, 4, 4))


@pytest.mark.gpu
def test_on_the_gpu_as_on_the_cpu():
    rng = np.random.default_rng(0)
    maps = torch.from_numpy(noise(rng, (4, 1, 352, 352)))
    truths = torch.from_numpy(gaussian_filter(rng.normal(size=(4, 1, 352, 352)), (0, 0, 20, 20))) > 0.01
    for prediction in (maps, maps.float() / 255):
        here = compute_map_scores(prediction, truths)
        there = compute_map_scores(prediction.cuda(), truths.cuda())
        for name, value in here.values.items():
            torch.testing.assert_close(there.values[name].cpu(), value, rtol=0, atol=1e-6, msg=name)
        for name, curve in here.curves.items():
            torch.testing.assert_close(there.curves[name].cpu(), curve, rtol=0, atol=1e-6, msg=name)
