# SPDX-License-Identifier: Apache-2.0
"""Tests of the table of scores: rows, sets, files, and what is refused."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from monai.data import MetaTensor

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.evaluation import ScoreTable
from monai_sam2unet.evaluation.bootstrap import bootstrap_interval
from monai_sam2unet.evaluation.calibration import calibration_bins, expected_calibration_error
from monai_sam2unet.evaluation.case_scores import clinical_scores, papers_scores
from monai_sam2unet.evaluation.columns import CLINICAL_COLUMNS, PAPERS_COLUMNS
from monai_sam2unet.metrics import compute_centerline_dice

WITHOUT_CENTERLINE = [name for name in CLINICAL_COLUMNS if name != "cldice"]


def case(seed, height=24, width=32, empty=False):
    """A map that has something to do with its truth, (1, H, W) both."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    row, column, radius = generator.integers(8, 16), generator.integers(8, 24), generator.integers(4, 8)
    truth = (rows - row) ** 2 + (columns - column) ** 2 < radius**2
    noise = generator.uniform(0, 0.6, (height, width))
    maps = np.clip(0.5 * np.roll(truth, 2, 1) + noise, 0, 1)
    truth &= not empty
    return torch.from_numpy(maps.astype(np.float32))[None], torch.from_numpy(truth)[None]


CASES = [("A", "1", case(1)), ("A", "2", case(2, 30, 40)), ("B", "1", case(3)), ("A", "3", case(4, empty=True))]


@pytest.fixture
def table():
    made = ScoreTable()
    for dataset, image, pair in CASES:
        made.add(dataset, image, *pair)
    return made


def test_a_row_an_image_in_both_readings(table):
    frame = table.frame()
    expected = ["dataset", "image", "height", "width", "foreground", *WITHOUT_CENTERLINE, *PAPERS_COLUMNS]
    assert list(frame) == expected
    assert frame["foreground"].tolist() == pytest.approx([float(truth.float().mean()) for _, _, (_, truth) in CASES])
    assert frame[["dataset", "image"]].values.tolist() == [[d, i] for d, i, _ in CASES]
    assert frame[["height", "width"]].values.tolist() == [[24, 32], [30, 40], [24, 32], [24, 32]]
    for number, (_, _, (maps, truth)) in enumerate(CASES):
        scores = clinical_scores(maps[None], truth[None]) | papers_scores(maps[None], truth[None])[0]
        for column, value in scores.items():
            assert frame[column][number] == pytest.approx(value[0], nan_ok=True), column
        error = expected_calibration_error(calibration_bins(maps[None], truth[None]))
        assert frame["calibration_error"][number] == pytest.approx(error[0])


def test_maxima_are_those_of_the_sets_mean_curve(table):
    own = [papers_scores(m[None], t[None])[1] for d, _, (m, t) in CASES if d == "A"]
    for name in ("e", "f", "dice", "iou"):
        curves = np.stack([curve[name][0] for curve in own])
        best = curves.mean(0).argmax()
        found = table.frame().query("dataset == 'A'")[f"{name}_max"]
        np.testing.assert_allclose(found, curves[:, best], atol=1e-6)
        assert table.summary()["A"][f"mean_{name}_max"] == pytest.approx(curves.mean(0).max(), abs=1e-6)
        np.testing.assert_allclose(table.curves()["A"][name], curves.mean(0), atol=1e-6)


def test_batches_are_as_single_cases(table):
    together = ScoreTable()
    alike = [entry for entry in CASES if entry[2][0].shape == (1, 24, 32)]
    maps, truths = (torch.stack([pair[n] for _, _, pair in alike]) for n in (0, 1))
    together.add_batch([d for d, _, _ in alike], [i for _, i, _ in alike], maps, truths)
    single = table.frame().query("height == 24").drop(columns=[f"{n}_max" for n in ("e", "f", "dice", "iou")])
    found = together.frame()[list(single)]
    pd.testing.assert_frame_equal(found.reset_index(drop=True), single.reset_index(drop=True), rtol=1e-6)


def test_summary(table):
    summary, frame = table.summary(), table.frame()
    assert list(summary) == ["A", "B"]
    own = frame[frame["dataset"] == "A"]
    assert summary["A"]["images"] == 3
    assert summary["A"]["mean_dice"] == pytest.approx(own["dice"].mean())
    assert summary["A"]["std_dice"] == pytest.approx(own["dice"].std())
    low, high = summary["A"]["interval_iou_mean"]
    assert low < summary["A"]["mean_iou_mean"] < high
    assert "images_dice" not in summary["A"]
    # Of three images one has no object, and alone counts for false alarms.
    assert summary["A"]["images_false_alarm"] == 1
    assert summary["A"]["mean_false_alarm"] == 1
    assert (summary["A"]["std_false_alarm"], summary["A"]["interval_false_alarm"]) == (0, None)
    assert (summary["B"]["mean_false_alarm"], summary["B"]["images_false_alarm"]) == (None, 0)
    assert summary["B"]["std_dice"] == 0
    table.add("B", "2", *case(7))
    assert table.summary()["B"]["images"] == 2


def test_files(table, tmp_path):
    table.write(tmp_path, {"checkpoint": tmp_path})
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [r["false_alarm"] for r in rows] == ["", "", "", "1.0"]
    assert float(rows[1]["hd95"]) == table.frame()["hd95"][1]
    content = json.loads((tmp_path / "summary.json").read_text())
    assert content["sets"] == table.summary()
    assert content["settings"]["checkpoint"] == str(tmp_path)
    assert content["settings"]["scores"]["threshold"] == 0.5
    assert content["settings"]["scores"]["boundary_tolerance"] == 0.008
    curves = pd.read_csv(tmp_path / "curves.csv")
    assert curves.groupby("dataset").size().to_dict() == {"A": 256, "B": 256}
    assert list(curves) == ["dataset", "level", "e", "f", "dice", "iou", "precision", "recall"]
    np.testing.assert_allclose(curves.query("dataset == 'B'")["dice"], table.curves()["B"]["dice"])
    reliability = pd.read_csv(tmp_path / "reliability.csv")
    own = reliability.query("dataset == 'A'")
    assert own["pixels"].sum() == sum(maps.numel() for dataset, _, (maps, _) in CASES if dataset == "A")
    np.testing.assert_allclose(own["frequency"], table.reliability()["A"]["frequency"])


@pytest.mark.parametrize(
    ("options", "columns"),
    [
        ({"protocol": "sod"}, list(PAPERS_COLUMNS)),
        ({"protocol": "clinical"}, WITHOUT_CENTERLINE),
        ({"protocol": "clinical", "centerline": True}, list(CLINICAL_COLUMNS)),
        ({"protocol": "sod", "centerline": True}, list(PAPERS_COLUMNS)),
        (
            {"protocol": "clinical", "surface": False},
            ["dice", "iou", "balanced_error_rate", "false_alarm", "false_alarm_area", "calibration_error"],
        ),
    ],
)
def test_readings_can_be_left_out(options, columns, tmp_path):
    table = ScoreTable(**options)
    table.add(*CASES[0][:2], *CASES[0][2])
    assert list(table.frame())[5:] == columns
    table.write(tmp_path)
    assert (tmp_path / "reliability.csv").exists() == (options["protocol"] == "clinical")
    assert (tmp_path / "curves.csv").exists() == (options["protocol"] == "sod")


def test_what_an_image_without_object_counts():
    nothing = torch.zeros(1, 8, 8)
    found = {}
    for choice in (0, 1, "ignore"):
        table = ScoreTable(protocol="sod", empty_truth=choice)
        table.add("A", "with", *case(1, 24, 32))
        table.add("A", "without", nothing, nothing)
        found[choice] = table.summary()["A"]
    # Every threshold but 0 finds nothing; at 0 all is predicted, and F and Dice are 0 either way.
    assert found[1]["mean_dice_mean"] - found[0]["mean_dice_mean"] == pytest.approx(255 / 256 / 2)
    assert found["ignore"]["mean_dice_mean"] == pytest.approx(2 * found[0]["mean_dice_mean"])
    assert found["ignore"]["images_dice_mean"] == 1
    assert found["ignore"]["mean_dice_max"] is not None


def test_centerline_dice_is_measured_where_it_is_asked_for(capsys):
    table = ScoreTable(protocol="clinical", surface=False, centerline=True)
    maps, truth = case(1)
    nothing = torch.zeros_like(maps)
    for name, pair in {"1": (maps, truth), "nothing": (nothing, nothing), "missed": (nothing, truth)}.items():
        table.add("A", name, *pair)
    expected = float(compute_centerline_dice(maps[None] >= 0.5, truth[None]))
    assert 0 < expected < 1
    assert [row["cldice"] for row in table.rows] == pytest.approx([expected, 1, 0])
    assert [row["dice"] for row in table.rows][1:] == [1, 0]  # empty masks count as in the Dice
    table.print()
    assert "clDice ↑" in capsys.readouterr().out


def test_centerline_dice_of_classes():
    table = ScoreTable(class_names=["artery", "vein"], centerline=True)
    maps, truth = (torch.cat([a, b]) for a, b in zip(case(1), case(2), strict=True))
    table.add("A", "1", maps, truth)
    columns = ["dice", "iou", "cldice", *(f"{s}_{c}" for s in ("dice", "iou", "cldice") for c in ("artery", "vein"))]
    assert list(table.frame())[5:] == columns
    found = compute_centerline_dice(maps[None] >= 0.5, truth[None], include_background=True)[0].tolist()
    (row,) = table.rows
    assert [row["cldice_artery"], row["cldice_vein"]] == pytest.approx(found)
    assert row["cldice"] == pytest.approx(sum(found) / 2)


def test_classes(tmp_path, capsys):
    table = ScoreTable(class_names=["left [b]", "right"])
    maps, truth = (torch.cat([a, b]) for a, b in zip(case(1), case(2), strict=True))
    table.add("A", "1", maps, truth)
    table.add("A", "2", truth.float(), truth)
    columns = ["dice", "iou", "dice_left [b]", "dice_right", "iou_left [b]", "iou_right"]
    assert list(table.frame())[5:] == columns
    assert table.reliability() == {}
    assert table.frame()["dice_right"][1] == 1
    assert table.summary()["A"]["mean_dice"] == pytest.approx(
        (table.summary()["A"]["mean_dice_left [b]"] + table.summary()["A"]["mean_dice_right"]) / 2
    )
    table.print()
    assert "dice left [b]" in capsys.readouterr().out


def test_tensors_of_any_kind():
    maps, truth = CASES[0][2]
    table = ScoreTable(protocol="clinical")
    table.add("A", "plain", maps, truth)
    table.add("A", "meta", MetaTensor(maps), MetaTensor(truth.to(torch.uint8) * 255))
    table.add("A", "half", maps.double(), truth.float())
    assert len({tuple(row[c] for c in ("dice", "hd95")) for row in table.rows}) == 1
    table.clear()
    assert len(table) == 0
    table.add("A", "plain", maps, truth)


def test_millimetres_come_with_the_tensors():
    maps, truth = CASES[0][2]
    spaced = MetaTensor(truth.float(), affine=torch.diag(torch.tensor([0.5, 0.5, 1.0, 1.0])))
    table = ScoreTable(protocol="clinical", unit="mm")
    table.add("A", "1", maps, spaced)
    pixels = clinical_scores(maps[None], truth[None])["hd95"][0]
    assert table.rows[0]["hd95"] == pytest.approx(pixels / 2)
    with pytest.raises(DataError, match="size of a pixel"):
        table.add("A", "2", maps, truth)


def test_both_tables_name_their_protocol(table, capsys):
    table.print()
    text = " ".join(capsys.readouterr().out.split())
    assert "Clinical: probability >= 0.5 at native size" in text
    assert "Papers' protocol: maps min-max normalised per image, 8 bit, mean over 256 thresholds" in text
    assert "MAE ↓" in text
    assert f"{table.summary()['A']['mean_s_measure']:.4f}" in text
    assert "1.0000 n=1" in text


@pytest.mark.parametrize(
    ("maps", "truth", "told"),
    [
        (torch.zeros(1, 8, 9), torch.zeros(1, 8, 8), r"\(1, 8, 9\) and truth \(1, 8, 8\) differ in size"),
        (torch.zeros(2, 8, 8), torch.zeros(2, 8, 8), r"\(1, H, W\)"),
        (torch.zeros(1, 0, 8), torch.zeros(1, 0, 8), r"\(1, H, W\)"),
        (torch.full((1, 8, 8), 1.1), torch.zeros(1, 8, 8), r"in \[0, 1\].*sigmoid"),
        (torch.full((1, 8, 8), -0.1), torch.zeros(1, 8, 8), r"in \[0, 1\]"),
        (torch.full((1, 8, 8), math.nan), torch.zeros(1, 8, 8), "NaN"),
    ],
)
def test_maps_that_are_refused(maps, truth, told):
    table = ScoreTable()
    with pytest.raises(DataError, match=told):
        table.add("A", "1", maps, truth)
    assert len(table) == 0


def test_a_case_counts_once(table):
    with pytest.raises(DataError, match="two cases 1 of the set A"):
        table.add("A", "1", *CASES[2][2])
    maps, truth = (torch.stack([x, x]) for x in CASES[0][2])
    with pytest.raises(DataError, match="two cases 9"):
        table.add_batch(["A", "A"], ["9", "9"], maps, truth)
    assert len(table) == len(CASES)
    table.add("B", "2", *CASES[0][2])


@pytest.mark.parametrize(
    "options",
    [
        {"threshold": 0}, {"threshold": 1.5}, {"protocol": "cod"}, {"tolerance": -1}, {"tolerance": math.nan},
        {"unit": "cm"}, {"empty_truth": "skip"}, {"empty_truth": 0.5}, {"class_names": ["one"]},
        {"class_names": ["a", "a"]}, {"class_names": "ab"}, {"class_names": ["a", ""]},
    ],
)  # fmt: skip
def test_settings_that_are_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        ScoreTable(**options)


def test_cases_that_are_dropped_leave_no_trace(table):
    without = ScoreTable()
    for dataset, image, pair in CASES:
        if (dataset, image) != ("A", "2"):
            without.add(dataset, image, *pair)
    table.summary()
    table.drop([("A", "2"), ("A", "not there")])
    pd.testing.assert_frame_equal(table.frame(), without.frame())
    assert table.summary() == without.summary()
    table.add("A", "2", *case(2, 30, 40))  # and can come again
    assert len(table) == 4


def test_intervals_are_those_of_the_bootstrap_and_the_record_says_which():
    table = ScoreTable(protocol="clinical", surface=False)
    generator = torch.Generator().manual_seed(0)
    for number in range(12):
        maps, truth = (torch.rand(1, 9, 9, generator=generator) for _ in range(2))
        table.add("x", str(number), maps, truth > 0.4)
    values = table.frame()["dice"].to_numpy()
    made = table.settings
    assert (made["confidence"], made["num_resamples"]) == (0.95, 2000)
    expected = bootstrap_interval(values, confidence=0.95, num_resamples=2000, seed=0)
    assert table.summary()["x"]["interval_dice"] == pytest.approx(expected)


def test_images_that_are_ignored_leave_curves_and_maxima_alone(tmp_path):
    generator = torch.Generator().manual_seed(0)
    maps, truth = torch.rand(1, 16, 16, generator=generator), torch.zeros(1, 16, 16)
    truth[:, 4:9, 4:9] = 1
    alone, both = ScoreTable(protocol="sod"), ScoreTable(protocol="sod", empty_truth="ignore")
    for table in (alone, both):
        table.add("x", "1.png", maps, truth)
    both.add("x", "2.png", maps, torch.zeros_like(truth))
    for name, curve in alone.curves()["x"].items():
        np.testing.assert_allclose(both.curves()["x"][name], curve)
    assert both.summary()["x"]["mean_f_max"] == pytest.approx(alone.summary()["x"]["mean_f_max"])
    both.write(tmp_path)
    assert not pd.read_csv(tmp_path / "curves.csv").isna().any().any()


def test_names_that_are_no_utf8_do_not_cost_the_scores(tmp_path):
    table = ScoreTable(protocol="clinical", surface=False)
    table.add("x", "caf\udce9.png", torch.ones(1, 3, 3), torch.ones(1, 3, 3))
    table.write(tmp_path)
    assert "caf\\udce9.png" in (tmp_path / "metrics.csv").read_text(encoding="utf-8")


def test_classes_have_no_names_of_other_scores():
    with pytest.raises(ConfigError, match="dice_mean is a score"):
        ScoreTable(class_names=["mean", "spleen"])
