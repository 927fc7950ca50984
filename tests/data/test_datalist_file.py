# SPDX-License-Identifier: Apache-2.0
"""Tests of datalists, and of bundles and plans that read them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_sam2unet.bundle import evaluation_datalist, training_datalist
from monai_sam2unet.data import read_datalist
from monai_sam2unet.errors import DataError
from monai_sam2unet.plan.picture_survey import survey_pictures


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Four pictures for training and two for tests, whose masks are called otherwise."""
    lists: dict[str, list] = {"training": [], "test": []}
    for number in range(6):
        image, label = f"frames/{number}.png", f"truth/{number}_seg.png"
        for name, pixels in ((image, np.full((8, 9, 3), 40 * number)), (label, np.eye(8, 9) * 255)):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / name)
        lists["test" if number > 3 else "training"].append({"image": image, "label": label})
    path = tmp_path / "datalist.json"
    path.write_text(json.dumps({"name": "mine", "labels": {"0": "background"}, **lists}))
    return path


def test_bundles_read_it(file: Path):
    found = training_datalist(file, val_fraction=0.25)
    assert (len(found["training"]), len(found["validation"])) == (3, 1)
    assert found["training"][0]["dataset"] == "training"
    test = evaluation_datalist(file)
    assert [Path(item["label"]).name for item in test] == ["4_seg.png", "5_seg.png"]


def test_plans_read_it(file: Path):
    survey = survey_pictures(file, workers=1)
    assert (survey.layout, len(survey.cases), survey.problems) == ("a datalist", 4, [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON"), ("[]", "has no list of cases"), ('{"training": []}', "has no list of cases"),
        ('{"test": ["a.png"]}', "has no list of cases"),
        ('{"training": [{"image": "a.png", "label": "b.png"}]}', r"2 files that .* names are not there:\n.*a\.png"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path: Path, text: str, message: str):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_datalist(tmp_path / "a.json")
