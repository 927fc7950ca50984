# SPDX-License-Identifier: Apache-2.0
"""Tests of the bundle that is made for a folder of pictures: it trains as it is, and says why it is so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.plan.picture_survey import PictureSurvey, survey_pictures
from monai_sam2unet.plan.plan_pictures import plan_pictures

from ..warm_python import WarmPython

SETS = {"isic2017": 1, "busi": 1, "cxr-lungs": 1, "cxr-multiclass": 4, "chasedb1": 1, "dsb2018": 1}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Ten gray pictures of two classes."""
    folder = tmp_path / "data"
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for number in range(10):
        truth = np.zeros((40, 60), np.uint8)
        truth[5:20, 10:30], truth[25:35, number : number + 20] = 1, 2
        noise = np.random.default_rng(number).integers(0, 60, truth.shape)
        Image.fromarray((noise + 60 * truth).astype(np.uint8)).save(folder / "images" / f"{number}.png")
        Image.fromarray(truth).save(folder / "masks" / f"{number}.png")
    return folder


def test_the_bundle_trains_as_it_is(python_m: WarmPython, data: Path, tmp_path: Path):
    folder = tmp_path / "two_parts"
    choices = plan_pictures(survey_pictures(data, workers=1), data, folder, class_names=["upper", "lower"])
    text = (folder / "plan.md").read_text(encoding="utf-8")
    for choice in choices:
        assert f"| {choice.name} |" in text
        assert choice.reason in text
    assert "10 images with masks, 60 to 60 pixels wide and 40 to 40 high, gray" in text
    train = yaml.safe_load((folder / "configs" / "train.yaml").read_text())
    assert (train["class_names"], train["mask_threshold"]) == (["upper", "lower"], None)
    assert (train["dataset_dir"], train["fold"], train["encoder_size"]) == (str(data), 0, "tiny")
    inference = yaml.safe_load((folder / "configs" / "inference.yaml").read_text())
    assert (inference["dataset_dir"], inference["batch_size"]) == ("data", 1)
    assert inference["spatial_size"] == train["spatial_size"] == [224, 224]
    small = ["--spatial_size", "[64,64]", "--num_workers", "0"]
    for words in (
        ["training", "--config_file", "configs/train.yaml", "--weights", "random", "--max_epochs", "1"],
        ["evaluating", "--config_file", "configs/evaluate.yaml"],
    ):
        done = python_m(["monai.bundle", "run", *words, *small], cwd=folder)
        assert done.returncode == 0, done.stderr[-2000:]
    assert "dice_lower" in (folder / "eval" / "metrics.csv").read_text()
    assert len((folder / "eval" / "metrics.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize("name", SETS)
def test_real_sets_are_planned_unchanged(shared_data: Path, tmp_path: Path, name: str):
    survey = survey_pictures(shared_data / name, workers=2)
    assert survey.problems == []
    assert survey.num_classes == SETS[name]
    plan_pictures(survey, shared_data / name, tmp_path / "bundle", gpu_memory=24)
    assert (tmp_path / "bundle" / "configs" / "train.yaml").exists()


def test_nothing_is_written_where_there_are_problems(tmp_path: Path):
    survey = PictureSurvey("folders", [], ["a.png: gone", "b.png: torn"], [])
    with pytest.raises(DataError, match=r"2 problems with DATA; mend them.*\n.*a\.png: gone\n.*b\.png: torn"):
        plan_pictures(survey, "DATA", tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_names_of_classes_fit_the_masks(data: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match="--classes names 3 classes; the masks hold 2"):
        plan_pictures(survey_pictures(data, workers=1), data, tmp_path / "bundle", class_names=["a", "b", "c"])
    for path in (data / "masks").iterdir():
        Image.fromarray((np.asarray(Image.open(path)) > 0).astype(np.uint8)).save(path)
    with pytest.raises(ConfigError, match="name it by `--object`"):
        plan_pictures(survey_pictures(data, workers=1), data, tmp_path / "bundle", class_names=["a", "b"])
