# SPDX-License-Identifier: Apache-2.0
"""Tests of the scores of whole volumes, against SciPy's distances and Dice by hand."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy import ndimage

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.evaluation import VolumeScoreTable, compare_scores
from monai_sam2unet.evaluation.volume_scores import volume_scores

NAMES = ["RV", "LV"]
SPACING = (1.5, 2.0, 8.0)


def balls(seed, shape=(20, 18, 9)):
    """Class indices (1, X, Y, Z): two balls."""
    generator = np.random.default_rng(seed)
    where = np.stack(np.mgrid[tuple(slice(n) for n in shape)])
    classes = np.zeros(shape, np.uint8)
    for k in (1, 2):
        middle = np.array([5 + 8 * (k - 1), 9, 4]) + generator.integers(-1, 2, 3)
        classes[((where - middle[:, None, None, None]) ** 2).sum(0) < 12] = k
    return torch.from_numpy(classes)[None]


def placed(classes):
    return MetaTensor(classes.float(), affine=torch.diag(torch.tensor([*SPACING, 1.0], dtype=torch.float64)))


def hd95(a, b):
    """By SciPy: the larger of the 95th percentiles of the distances between outlines."""
    outlines = [x & ~ndimage.binary_erosion(x) for x in (a, b)]
    distances = [ndimage.distance_transform_edt(~x, sampling=SPACING) for x in outlines]
    return max(np.percentile(distances[1][outlines[0]], 95), np.percentile(distances[0][outlines[1]], 95))


def test_scores_of_each_class_are_those_by_hand():
    pred, truth = balls(1), balls(2)
    found = volume_scores(pred, truth, NAMES, SPACING)
    for column, by_hand in {
        "dice": lambda a, b: 2 * (a & b).sum() / (a.sum() + b.sum()),
        "iou": lambda a, b: (a & b).sum() / (a | b).sum(),
        "hd95": hd95,
    }.items():
        values = [by_hand((pred[0] == k).numpy(), (truth[0] == k).numpy()) for k in (1, 2)]
        assert [found[f"{column}_{name}"] for name in NAMES] == pytest.approx(values, rel=1e-5)
        assert found[column] == pytest.approx(np.mean(values), rel=1e-5)


def test_classes_that_are_not_there():
    nothing, truth = torch.zeros(1, 20, 18, 9), balls(1)
    diagonal = math.hypot(*(n * s for n, s in zip((20, 18, 9), SPACING, strict=True)))
    found = volume_scores(nothing, truth, NAMES, SPACING)
    assert [found[name] for name in ("dice", "iou")] == [0, 0]
    assert found["hd95_RV"] == pytest.approx(diagonal)
    found = volume_scores(nothing, nothing, NAMES, SPACING)
    assert [found[name] for name in ("dice", "iou", "hd95")] == [1, 1, 0]


def test_a_row_a_volume_in_millimetres(tmp_path, capsys):
    table = VolumeScoreTable(NAMES)
    for number in range(3):
        table.add("A", f"{number}.nii.gz", balls(number).float(), placed(balls(number + 1)))
    table.write(tmp_path, {"checkpoint": "x"})
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "dataset", "image", "size_x", "size_y", "size_z", "foreground", "dice", "iou", "hd95", "dice_RV", "dice_LV",
        "iou_RV", "iou_LV", "hd95_RV", "hd95_LV",
    ]  # fmt: skip
    assert [rows[0][f"size_{axis}"] for axis in "xyz"] == ["20", "18", "9"]
    expected = volume_scores(balls(0), balls(1), NAMES, SPACING)
    assert {name: float(rows[0][name]) for name in expected} == pytest.approx(expected)
    content = json.loads((tmp_path / "summary.json").read_text())
    assert content["sets"]["A"]["mean_hd95_LV"] == pytest.approx(np.mean([float(r["hd95_LV"]) for r in rows]))
    assert "dice_by_size" not in content["sets"]["A"]
    assert content["settings"]["scores"]["unit"] == "mm"
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.csv", "summary.json"}
    table.print()
    printed = capsys.readouterr().out
    assert "Whole volumes" in printed
    assert "hd95 LV [mm] ↓" in printed


def test_evaluations_of_volumes_are_compared_by_their_scores(tmp_path):
    files = []
    for shift in (1, 2):
        table = VolumeScoreTable(NAMES)
        for number in range(3):
            table.add("A", f"{number}.nii.gz", balls(number), placed(balls(number + shift)))
        files.append(tmp_path / f"{shift}.csv")
        table.frame().to_csv(files[-1], index=False)
    found = compare_scores(*files).table
    assert set(found["metric"]) == set(VolumeScoreTable(NAMES).clinical_columns)
    lower = found.set_index("metric")["lower_is_better"]
    assert {name: bool(lower[name]) for name in ("dice_RV", "hd95_RV")} == {"dice_RV": False, "hd95_RV": True}
    table.frame().assign(size_z=8).to_csv(files[0], index=False)
    with pytest.raises(DataError, match=r"other sizes(.|\n)*20x18x8.*20x18x9"):
        compare_scores(*files)


def test_what_is_refused():
    table, truth = VolumeScoreTable(NAMES), balls(1)
    with pytest.raises(DataError, match="size of a pixel"):
        table.add("A", "1", truth, truth)
    with pytest.raises(DataError, match=r"1: volumes of class indices are \(1, X, Y, Z\)"):
        table.add("A", "1", truth[:, :, :, :-1], placed(truth))
    with pytest.raises(DataError, match="0 to 2 here, got 3"):
        table.add("A", "1", truth + 1, placed(truth))
    table.add("A", "1", truth, placed(truth))
    with pytest.raises(DataError, match="two cases 1"):
        table.add("A", "1", truth, placed(truth))
    assert len(table) == 1
    with pytest.raises(ConfigError, match="class_names"):
        VolumeScoreTable([])
    with pytest.raises(ConfigError, match="unit"):
        VolumeScoreTable(NAMES, unit="cm")
