# SPDX-License-Identifier: Apache-2.0
"""Tests of the report of an evaluation, against Dice and IoU by hand; images and masks are read from files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.transforms import AsDiscreted, Compose, EnsureChannelFirstd, Identityd, Lambdad, LoadImaged
from PIL import Image
from torch import nn

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.evaluation.case_scores import papers_scores
from monai_sam2unet.evaluation.columns import CLINICAL_COLUMNS, PAPERS_COLUMNS
from monai_sam2unet.evaluation.volume_scores import volume_scores
from monai_sam2unet.handlers import EvaluationReport
from monai_sam2unet.handlers.shown_slice import shown_slice


def strip(first: int, last: int, height: int = 4, width: int = 10) -> np.ndarray:
    """A mask whose first row is foreground from ``first`` up to, not with, ``last``."""
    mask = np.zeros((height, width), np.uint8)
    mask[0, first:last] = 255
    return mask


# Name, set, prediction, truth, Dice, IoU.
CASES = [
    ("overlap", "A", strip(0, 4), strip(1, 7), 2 * 3 / (4 + 6), 3 / 7),
    ("exact", "A", strip(2, 5, 3, 7), strip(2, 5, 3, 7), 1.0, 1.0),
    ("apart", "A", strip(0, 2), strip(5, 8), 0.0, 0.0),
    ("nothing to find", "B", strip(0, 0), strip(0, 0), 1.0, 1.0),
    ("nothing to find, but found", "B", strip(0, 2), strip(0, 0), 0.0, 0.0),
    ("missed", "C", strip(0, 0), strip(0, 2), 0.0, 0.0),
]


def evaluator(folder, cases, report, network=None, postprocessing=None):
    """An evaluator that predicts what the image shows."""
    items = []
    for name, dataset, prediction, truth, *_ in cases:
        paths = {"image": folder / f"{name}.png", "label": folder / f"{name} truth.png"}
        for path, mask in zip(paths.values(), (prediction, truth), strict=True):
            Image.fromarray(mask).save(path)
        items.append({**{key: str(path) for key, path in paths.items()}, "dataset": dataset})
    keys = ["image", "label"]
    transform = Compose(
        [
            LoadImaged(keys, reader="PILReader", reverse_indexing=False),
            EnsureChannelFirstd(keys),
            AsDiscreted("label", threshold=127.5),
        ]
    )
    return SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(items, transform), batch_size=1),
        network=network or nn.Identity(),
        postprocessing=postprocessing or AsDiscreted("pred", threshold=127.5),
        val_handlers=[report],
    )


@pytest.fixture
def report(tmp_path):
    (tmp_path / "eval").mkdir()
    return EvaluationReport(tmp_path / "eval", {"precision": "fp32", "checkpoint": tmp_path / "model.pt"})


def test_table_of_images(tmp_path, report):
    evaluator(tmp_path, CASES, report).run()
    with (tmp_path / "eval" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    scores = [name for name in (*CLINICAL_COLUMNS, *PAPERS_COLUMNS) if name != "cldice"]
    assert list(rows[0]) == ["dataset", "image", "height", "width", "foreground", *scores]
    for row, (name, dataset, _, truth, dice, iou) in zip(rows, CASES, strict=True):
        assert row["dataset"] == dataset
        assert Path(row["image"]) == tmp_path / f"{name}.png"
        assert (int(row["height"]), int(row["width"])) == truth.shape
        assert float(row["dice"]) == pytest.approx(dice)
        assert float(row["iou"]) == pytest.approx(iou)


def test_summary_of_sets(tmp_path, report):
    evaluator(tmp_path, CASES, report).run()
    content = json.loads((tmp_path / "eval" / "summary.json").read_text())
    scores = content["settings"].pop("scores")
    assert content["settings"] == {"precision": "fp32", "checkpoint": str(tmp_path / "model.pt")}
    assert (scores["threshold"], scores["protocol"]) == (0.5, "both")
    assert list(content["sets"]) == ["A", "B", "C"]
    for name, summary in content["sets"].items():
        dice = [case[4] for case in CASES if case[1] == name]
        iou = [case[5] for case in CASES if case[1] == name]
        expected = {
            "images": len(dice),
            "mean_dice": pytest.approx(np.mean(dice)),
            "std_dice": pytest.approx(np.std(dice, ddof=1) if len(dice) > 1 else 0),
            "mean_iou": pytest.approx(np.mean(iou)),
            "std_iou": pytest.approx(np.std(iou, ddof=1) if len(iou) > 1 else 0),
        }
        assert {key: summary[key] for key in expected} == expected
    assert report.summary() == content["sets"]


def test_printed_table(tmp_path, report, capsys):
    evaluator(tmp_path, CASES, report).run()
    printed = capsys.readouterr().out
    assert "0.5333" in printed  # mean Dice of set A: of 0.6, 1 and 0
    assert "Clinical: probability >= 0.5" in printed
    assert "Papers' protocol" in printed
    assert str(tmp_path / "eval" / "metrics.csv") in printed


def test_a_second_run_starts_anew(tmp_path, report):
    engine = evaluator(tmp_path, CASES, report)
    engine.run()
    engine.run()
    assert len(report.rows) == len(CASES)


def test_prediction_and_truth_must_have_one_size(tmp_path, report):
    with pytest.raises(ValueError, match=r"\(1, 2, 5\) and truth \(1, 4, 10\) differ in size"):
        evaluator(tmp_path, CASES, report, nn.AvgPool2d(2)).run()


def test_probabilities_are_read_both_ways(tmp_path):
    """The network's own values in the papers' reading, one threshold in the clinical one."""
    generator = np.random.default_rng(0)
    cases = [
        (str(number), "A", generator.integers(0, 200, shape).astype(np.uint8), strip(2, 6, *shape))
        for number, shape in enumerate([(12, 20), (16, 10), (12, 20)])
    ]
    report = EvaluationReport(tmp_path, threshold=0.3, report=False)
    evaluator(tmp_path, cases, report, postprocessing=Lambdad("pred", lambda x: x / 255)).run()
    for row, (_, _, levels, truth) in zip(report.rows, cases, strict=True):
        maps, mask = (torch.from_numpy(x)[None, None] for x in (levels / 255, truth > 0))
        expected, _ = papers_scores(maps.float(), mask)
        assert row["s_measure"] == pytest.approx(expected["s_measure"][0])
        pred = levels / 255 >= 0.3
        dice = 2 * (pred & (truth > 0)).sum() / (pred.sum() + (truth > 0).sum())
        assert row["dice"] == pytest.approx(dice)
    assert not (tmp_path / "report.html").exists()
    assert len((tmp_path / "curves.csv").read_text().splitlines()) == 257


def test_report_with_pictures_and_published_numbers(tmp_path, capsys):
    report = EvaluationReport(tmp_path, published={"A": {"dice_mean": 0.9}, "Z": {"mae": 0.1}})
    evaluator(tmp_path, CASES, report).run()
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "overlap.png: image" in page
    assert "0.900" in page
    assert "not measured here: Z" in " ".join(capsys.readouterr().out.split())
    assert (tmp_path / "published.csv").read_text().splitlines()[1].startswith("A,dice_mean,")


def test_masks_of_eight_bits_are_masks_not_levels(tmp_path):
    report = EvaluationReport(tmp_path, report=False, protocol="clinical")
    to_bytes = Lambdad("pred", lambda x: (x > 127).to(torch.uint8))
    evaluator(tmp_path, CASES, report, postprocessing=to_bytes).run()
    assert [row["dice"] for row in report.rows] == pytest.approx([case[4] for case in CASES])


def test_logits_are_refused(tmp_path):
    report = EvaluationReport(tmp_path, report=False)
    with pytest.raises(DataError, match="sigmoid"):
        evaluator(tmp_path, CASES, report, postprocessing=Lambdad("pred", lambda x: x - 100)).run()


def test_several_classes(tmp_path):
    """Channels are classes; only the clinical reading knows them."""
    report = EvaluationReport(tmp_path, class_names=["first", "second"])
    double = Lambdad(["pred", "label"], lambda x: torch.cat([x, 0 * x]) / x.max().clamp(1))
    evaluator(tmp_path, CASES, report, postprocessing=double).run()
    assert [row["dice_first"] for row in report.rows] == pytest.approx([case[4] for case in CASES])
    assert all(row["dice_second"] == 1 for row in report.rows)
    assert (tmp_path / "report.html").exists()


def test_class_indices(tmp_path):
    prediction, truth = np.zeros((2, 4, 10), np.uint8)
    prediction[0, 0:4], prediction[1, 0:2], truth[0, 1:7], truth[1, 0:2] = 1, 2, 1, 2
    report = EvaluationReport(tmp_path, class_names=["first", "second"], report=False)
    run = evaluator(tmp_path, [("a", "A", prediction, truth)], report, postprocessing=Identityd("pred"))
    run.data_loader.dataset.transform.transforms = run.data_loader.dataset.transform.transforms[:-1]
    run.run()
    assert report.rows[0]["dice_first"] == pytest.approx(2 * 3 / (4 + 6))
    assert report.rows[0]["dice_second"] == 1
    assert report.rows[0]["dice"] == pytest.approx(0.8)


def test_centerline_dice_is_measured_where_it_is_asked_for(tmp_path):
    """Of strips one pixel high, which are their own centerline, it is the Dice."""
    report = EvaluationReport(tmp_path, protocol="clinical", centerline=True)
    evaluator(tmp_path, [case for case in CASES if case[0] != "overlap"], report).run()
    assert [row["cldice"] for row in report.rows] == [1, 0, 1, 0, 0]
    assert "clDice" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_what_an_earlier_run_wrote_is_removed(tmp_path):
    out = tmp_path / "eval"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    evaluator(tmp_path, CASES, EvaluationReport(out, published={"A": {"dice_mean": 0.9}})).run()
    assert len(list(out.iterdir())) == 8
    evaluator(tmp_path, CASES, EvaluationReport(out, protocol="clinical", report=False)).run()
    files = ["metrics.csv", "notes.txt", "reliability.csv", "summary.json"]
    assert sorted(path.name for path in out.iterdir()) == files


def test_files_are_written_before_anything_is_printed(tmp_path, monkeypatch):
    def broken(*_):
        raise BrokenPipeError

    monkeypatch.setattr("monai_sam2unet.evaluation.score_table.print_scores", broken)
    report = EvaluationReport(tmp_path, published={"A": {"dice_mean": 0.9}})
    with pytest.raises(BrokenPipeError):
        evaluator(tmp_path, CASES, report).run()
    assert (tmp_path / "report.html").exists()
    assert (tmp_path / "published.md").exists()


# ---- whole volumes


def heart(seed):
    """Class indices (1, X, Y, Z) of a volume whose third slice has the most foreground."""
    classes = np.zeros((12, 10, 5), np.float32)
    for k in range(5):
        classes[1 : 3 + k % 3, 1 + seed : 4 + seed, k] = 1
        classes[7:9, 4:8, k] = 2 if k < 4 else 0
    return torch.from_numpy(classes)[None]


def volume_evaluator(report, count=2):
    affine = torch.diag(torch.tensor([1.5, 2.0, 8.0, 1.0], dtype=torch.float64))
    items = []
    for number in range(count):
        label, image = heart(0), heart(number)
        meta = {"filename_or_obj": f"{number}.nii.gz"}
        items.append(
            {
                "image": MetaTensor(image, affine, meta=meta),
                "label": MetaTensor(label, affine, meta=dict(meta)),
                "dataset": "A",
            }
        )
    return SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(items), batch_size=1),
        network=nn.Identity(),
        postprocessing=Lambdad("pred", lambda x: x.to(torch.uint8)),
        val_handlers=[report],
    )


def test_volumes_are_measured_whole(tmp_path):
    report = EvaluationReport(tmp_path, class_names=["RV", "LV"], plane="axial")
    volume_evaluator(report).run()
    assert [row["dice_LV"] for row in report.rows] == [1, 1]
    expected = volume_scores(heart(1), heart(0), ["RV", "LV"], (1.5, 2, 8))
    assert {name: report.rows[1][name] for name in expected} == pytest.approx(expected)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "1.nii.gz: image" in page
    assert "Whole volumes" in page


def test_the_slice_with_the_most_foreground_is_shown():
    volume = MetaTensor(heart(0), affine=torch.diag(torch.tensor([1.5, 2.0, 8.0, 1.0])))
    prediction, truth, gray = shown_slice(0 * heart(0), heart(0) > 0, volume, 2)
    assert torch.equal(truth, heart(0)[..., 2] > 0)
    assert prediction.shape == (1, 12, 10)
    assert (gray == (heart(0)[0, ..., 2] * 127.5).round().byte().numpy()).all()
    assert torch.equal(shown_slice(heart(0), 0 * heart(0), volume, 2)[0], heart(0)[..., 2])
    # Axial slices are shown with the patient's front on top and right on the left.
    assert torch.equal(shown_slice(heart(0), heart(0), volume, "axial")[0][0], heart(0)[0, ..., 2].T.flip(0, 1))


def test_volumes_need_names_of_classes(tmp_path):
    with pytest.raises(ConfigError, match="class_names with plane"):
        EvaluationReport(tmp_path, plane="axial")
