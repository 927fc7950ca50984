# SPDX-License-Identifier: Apache-2.0
"""Tests of the settings of two evaluations: where they are found, and what is said where they differ."""

from __future__ import annotations

import json

import pytest
import torch
from monai.data import MetaTensor

from monai_sam2unet.errors import DataError
from monai_sam2unet.evaluation.comparison import compare_scores, write_comparison
from monai_sam2unet.evaluation.measured_settings import MEASURED_SETTINGS, read_measured_settings
from monai_sam2unet.evaluation.score_table import ScoreTable


def measure(folder, mask_threshold=127.5, **settings):
    """An evaluation of two images, as the program writes it."""
    folder.mkdir()
    table = ScoreTable(**settings)
    for i in range(2):
        truth = torch.zeros(1, 12, 12, dtype=torch.bool)
        truth[:, 2:8, 2 + i : 9] = True
        spaced = MetaTensor(truth.float(), affine=torch.diag(torch.tensor([0.5, 0.5, 1.0, 1.0])))
        table.add("S", f"{i}.png", spaced * 0.9, spaced)
    table.write(folder, {"mask_threshold": mask_threshold, "dataset_dir": str(folder)})
    return folder


def test_settings_as_the_program_writes_them(tmp_path):
    folder = measure(tmp_path / "a", threshold=0.4)
    found = read_measured_settings(folder)
    assert found == read_measured_settings(folder / "metrics.csv")
    expected = {"protocol": "both", "threshold": 0.4, "mask_threshold": 127.5, "empty_truth": 0}
    expected |= {"tolerance": 2.0, "unit": "pixels", "boundary_tolerance": 0.008, "boundary_unit": "diagonal"}
    assert found == expected


def test_every_setting_of_the_scores_is_held_against_the_others():
    """A new setting of the table must not be forgotten here, unless it leaves the scores as they are."""
    others = {"monai_sam2unet", "confidence", "num_resamples"}
    assert set(ScoreTable().settings) - others <= set(MEASURED_SETTINGS)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"threshold": 0.3}, "threshold: 0.5 of A, 0.3 of B"),
        ({"tolerance": 3.0}, "tolerance: 2.0 of A, 3.0 of B"),
        ({"unit": "mm"}, "unit: pixels of A, mm of B"),
        ({"empty_truth": "ignore"}, "empty_truth: 0 of A, ignore of B"),
        ({"protocol": "clinical"}, "protocol: both of A, clinical of B"),
        ({"mask_threshold": 1.0}, "mask_threshold: 127.5 of A, 1.0 of B"),
    ],
)
def test_what_was_measured_differently_is_refused(tmp_path, changed, told):
    a, b = measure(tmp_path / "a"), measure(tmp_path / "b", **changed)
    with pytest.raises(DataError, match="measured differently") as error:
        compare_scores(a, b)
    assert f"\n  {told}\n" in str(error.value)
    assert "--allow-different-settings" in str(error.value)
    result = compare_scores(a, b, allow_different_settings=True)
    assert f"Measured differently: {told}." in result.notes
    _, js, _ = write_comparison(result, tmp_path / "out")
    content = json.loads(js.read_text())
    ((key, value),) = changed.items()
    assert content["measured"]["B"][key] == value
    assert f"Measured differently: {told}." in content["notes"]


def test_the_same_settings_need_no_word(tmp_path):
    result = compare_scores(measure(tmp_path / "a"), measure(tmp_path / "b"))
    assert not [note for note in result.notes if "easured" in note]


def test_unknown_settings_are_told(tmp_path):
    a, b = measure(tmp_path / "a"), measure(tmp_path / "b", threshold=0.3)
    (b / "metrics.csv").rename(b / "other.csv")
    notes = compare_scores(a, b / "other.csv", names=("base", "new")).notes
    assert notes[0].startswith("How new was measured is not known")
    (a / "summary.json").unlink()
    assert len([note for note in compare_scores(a, b / "other.csv").notes if "not known" in note]) == 2


def test_one_unknown_setting_is_told(tmp_path):
    a, b = measure(tmp_path / "a"), measure(tmp_path / "b")
    content = json.loads((b / "summary.json").read_text())
    del content["settings"]["mask_threshold"]
    (b / "summary.json").write_text(json.dumps(content))
    assert compare_scores(a, b).notes[0] == "Not known of B, so perhaps measured differently: mask_threshold."


@pytest.mark.parametrize("content", ["[]", "{}", '{"settings": 3}', '{"settings": {"scores": []}}'])
def test_other_json_has_no_settings(tmp_path, content):
    (tmp_path / "summary.json").write_text(content)
    assert read_measured_settings(tmp_path) == {}


def test_broken_json_is_told(tmp_path):
    (tmp_path / "summary.json").write_text("{")
    with pytest.raises(DataError, match=r"summary.json is no JSON"):
        read_measured_settings(tmp_path)
