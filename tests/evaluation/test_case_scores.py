# SPDX-License-Identifier: Apache-2.0
"""Tests of the two readings of a map, against PySODMetrics and against sums by hand."""

from __future__ import annotations

import numpy as np
import py_sod_metrics
import pytest
import torch
from scipy.ndimage import distance_transform_edt, gaussian_filter

from monai_sam2unet.evaluation.case_scores import class_scores, clinical_scores, papers_scores, to_probabilities


def disk(row, column, radius, shape=(60, 80)):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return (rows - row) ** 2 + (columns - column) ** 2 < radius**2


def levels(seed, shape=(60, 80)):
    """A soft map that goes from 0 to 255, as published code saves it."""
    field = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 4)
    return (255 * (field - field.min()) / np.ptp(field)).astype(np.uint8)


TRUTHS = [disk(30, 30, 12), disk(20, 55, 9)]
MAPS = [levels(1), levels(2)]


def batch(arrays):
    return torch.from_numpy(np.stack(arrays))[:, None]


def test_papers_reading_is_that_of_pysodmetrics():
    scores, curves = papers_scores(batch(MAPS), batch(TRUTHS))
    for number, (pred, truth) in enumerate(zip(MAPS, TRUTHS, strict=True)):
        measures = {
            "s_measure": py_sod_metrics.Smeasure(),
            "weighted_f": py_sod_metrics.WeightedFmeasure(),
            "mae": py_sod_metrics.MAE(),
        }
        e_measure, f_measure = py_sod_metrics.Emeasure(), py_sod_metrics.Fmeasure()
        for measure in (*measures.values(), e_measure, f_measure):
            measure.step(pred, truth.astype(np.uint8) * 255)
        expected = {name: next(iter(measure.get_results().values())) for name, measure in measures.items()}
        e, f = e_measure.get_results()["em"], f_measure.get_results()["fm"]
        expected |= {"e_adaptive": e["adp"], "e_mean": e["curve"].mean()}
        expected |= {"f_adaptive": f["adp"], "f_mean": f["curve"].mean()}
        for name, value in expected.items():
            assert scores[name][number] == pytest.approx(value, abs=1e-6), name
        masks = [pred >= t for t in range(256)]
        dice = [2 * (m & truth).sum() / (m.sum() + truth.sum()) for m in masks]
        assert scores["dice_mean"][number] == pytest.approx(np.mean(dice), abs=1e-6)
        np.testing.assert_allclose(curves["dice"][number], dice, atol=1e-6)
        assert curves["precision"].shape == (2, 256)


def test_probabilities_are_stretched_and_rounded_as_they_are_saved():
    probabilities = batch(MAPS).double() / 255 * 0.3 + 0.1
    low, high = (f(probabilities[0]).item() for f in (torch.min, torch.max))
    saved = np.floor((probabilities[:1].float().numpy() - low) / (high - low + 1e-8) * 255).astype(np.uint8)
    expected, _ = papers_scores(torch.from_numpy(saved), batch(TRUTHS[:1]))
    found, _ = papers_scores(probabilities[:1], batch(TRUTHS[:1]))
    assert found["mae"][0] == pytest.approx(expected["mae"][0], abs=2e-4)  # a level may round the other way
    clinical = clinical_scores(probabilities, batch(TRUTHS))
    assert (clinical["dice"] == 0).all()  # nothing is stretched: no value reaches 0.5


def test_clinical_reading_by_hand():
    pred, truth = disk(30, 33, 12), TRUTHS[0]
    found = clinical_scores(batch([pred, pred]).float(), batch([truth, pred]), tolerance=2.0)
    common, either = (pred & truth).sum(), (pred | truth).sum()
    assert found["dice"][0] == pytest.approx(2 * common / (pred.sum() + truth.sum()))
    assert found["iou"][0] == pytest.approx(common / either)
    recall, specificity = common / truth.sum(), (~pred & ~truth).sum() / (~truth).sum()
    assert found["balanced_error_rate"][0] == pytest.approx(1 - (recall + specificity) / 2)

    def edge(mask):
        inner = mask[1:-1, 1:-1] & mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
        return mask & ~np.pad(inner, 1)

    edges = edge(pred), edge(truth)
    there = distance_transform_edt(~edges[1])[edges[0]]
    back = distance_transform_edt(~edges[0])[edges[1]]
    assert found["hd95"][0] == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)), abs=1e-5)
    within = (there <= 2).sum() + (back <= 2).sum()
    assert found["surface_dice"][0] == pytest.approx(within / (len(there) + len(back)))
    assert np.isnan(found["false_alarm"]).all()
    assert (found["dice"][1], found["hd95"][1], found["surface_dice"][1]) == (1, 0, 1)


def test_images_without_object_and_without_prediction():
    nothing, some = np.zeros((30, 40), bool), disk(10, 10, 5, (30, 40))
    found = clinical_scores(batch([nothing, some, nothing]).float(), batch([nothing, nothing, some]))
    np.testing.assert_array_equal(found["dice"], [1, 0, 0])
    np.testing.assert_array_equal(found["iou"], [1, 0, 0])
    np.testing.assert_array_equal(found["false_alarm"], [0, 1, np.nan])
    np.testing.assert_allclose(found["false_alarm_area"], [0, some.mean(), np.nan])
    np.testing.assert_allclose(found["hd95"], [0, 50, 50])  # the diagonal
    np.testing.assert_array_equal(found["surface_dice"], [1, 0, 0])
    np.testing.assert_array_equal(found["balanced_error_rate"], [np.nan, np.nan, 0.5])


@pytest.mark.parametrize("where", [(0, 0), (59, 79), (30, 2)])
def test_cutting_out_the_objects_changes_no_distance(where):
    from monai_sam2unet.metrics import compute_hausdorff_distance_95, compute_normalized_surface_dice

    pred, truth = batch([disk(*where, 14)]), batch([disk(where[0] - 4, where[1] + 3, 14)])
    found = clinical_scores(pred.float(), truth, tolerance=1.5)
    options = {"unit": "pixels", "include_background": True}
    assert found["hd95"][0] == pytest.approx(compute_hausdorff_distance_95(pred, truth, **options).item())
    assert found["surface_dice"][0] == pytest.approx(
        compute_normalized_surface_dice(pred, truth, 1.5, **options).item()
    )


def test_distances_in_mm():
    pred, truth = batch([disk(30, 33, 12)]).float(), batch([disk(30, 30, 12)])
    pixels = clinical_scores(pred, truth)["hd95"][0]
    assert clinical_scores(pred, truth, spacings=[(0.5, 0.5)])["hd95"][0] == pytest.approx(pixels / 2)
    assert "hd95" not in clinical_scores(pred, truth, tolerance=None)


def test_the_threshold_is_reached_by_equal_values():
    truth = torch.ones(1, 1, 2, 2, dtype=torch.bool)
    assert clinical_scores(torch.full((1, 1, 2, 2), 0.7), truth, threshold=0.7)["dice"][0] == 1
    assert clinical_scores(torch.full((1, 1, 2, 2), 0.69), truth, threshold=0.7)["dice"][0] == 0
    assert clinical_scores(torch.full((1, 1, 2, 2), 128, dtype=torch.uint8), truth)["dice"][0] == 1
    assert clinical_scores(torch.full((1, 1, 2, 2), 127, dtype=torch.uint8), truth)["dice"][0] == 0


def test_classes():
    pred = torch.stack([batch([disk(30, 30, 10)]), batch([disk(20, 50, 8)])], 2)[:, 0].float()
    truth = torch.stack([batch([disk(30, 32, 10)]), batch([disk(20, 50, 8)])], 2)[:, 0]
    found = class_scores(pred, truth, ["lung", "heart"])
    one = clinical_scores(pred[:, :1], truth[:, :1], tolerance=None)
    assert found["dice_lung"][0] == pytest.approx(one["dice"][0])
    assert found["iou_lung"][0] == pytest.approx(one["iou"][0])
    assert found["dice_heart"][0] == 1
    assert found["dice"][0] == pytest.approx((one["dice"][0] + 1) / 2)


def test_levels_and_masks_as_probabilities():
    assert to_probabilities(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx([0, 0.2, 1])
    assert to_probabilities(torch.tensor([False, True])).tolist() == [0, 1]
    assert to_probabilities(torch.tensor([0.25], dtype=torch.bfloat16)).dtype == torch.float32


def test_a_class_begins_at_the_threshold_itself():
    maps = torch.tensor([0.5, 0.25, 0.5, 0.25]).reshape(1, 2, 1, 2).repeat(1, 1, 1, 1)
    truth = torch.tensor([True, False, True, False]).reshape(1, 2, 1, 2)
    assert class_scores(maps, truth, ["liver", "spleen"], threshold=0.5)["dice_spleen"].tolist() == [1.0]
