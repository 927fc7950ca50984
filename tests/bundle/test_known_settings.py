# SPDX-License-Identifier: Apache-2.0
"""Tests of networks that are given images otherwise than in their training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from monai_sam2unet.bundle import compare_settings
from monai_sam2unet.data import TrainingCases
from monai_sam2unet.errors import CheckpointError


@pytest.fixture
def checkpoint(tmp_path: Path):
    """Makes a checkpoint of a training with settings; its weights do not matter here."""

    def make(name: str, **settings: Any) -> Path:
        path = tmp_path / name
        TrainingCases.path_of(path).write_text(TrainingCases({}, {}, settings=settings).as_json())
        return path

    return make


@pytest.mark.parametrize("then", [[64, 96], (64, 96)])
@pytest.mark.parametrize("now", [[64, 96], (64, 96)])
def test_the_settings_of_the_training_are_no_news(checkpoint, caplog, then, now):
    compare_settings(checkpoint("a.pt", spatial_size=then, sliding_window=True), now, True)
    compare_settings(checkpoint("a.pt", spatial_size=then), now, True)
    compare_settings(checkpoint("a.pt", spatial_size=then, sliding_window=True), now)
    compare_settings(checkpoint("a.pt"), now, True)
    assert not caplog.records


def test_one_number_is_height_and_width(checkpoint, caplog):
    compare_settings(checkpoint("a.pt", spatial_size=64), [64, 64])
    compare_settings(checkpoint("a.pt", spatial_size=[64, 64]), 64)
    assert not caplog.records
    compare_settings(checkpoint("a.pt", spatial_size=64), 96)
    assert "spatial_size [64, 64], not [96, 96]" in caplog.text


@pytest.mark.parametrize(
    ("size", "windows", "told", "advice"),
    [
        ([96, 64], False, "spatial_size [64, 96], not [96, 64],", '`--spatial_size "[64,96]"`'),
        ([64, 96], True, "sliding_window False, not True,", '`--sliding_window "False"`'),
        (
            [32, 32], True, "spatial_size [64, 96], not [32, 32] and sliding_window False, not True,",
            '`--spatial_size "[64,96]" --sliding_window "False"`',
        ),
    ],
)  # fmt: skip
def test_other_settings_are_told_with_what_to_give(checkpoint, caplog, size, windows, told, advice):
    path = checkpoint("a.pt", spatial_size=[64, 96], sliding_window=False)
    compare_settings(path, size, windows)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.message.startswith(f"{path} was trained with {told} ")
    assert advice in record.message


def test_of_several_those_are_named_that_differ(checkpoint, caplog, tmp_path):
    paths = [checkpoint(f"{size}.pt", spatial_size=[size, size]) for size in (64, 96, 32)]
    compare_settings([*paths, tmp_path / "of which nothing is known.pt"], (64, 64), False)
    assert [record.message.split(" ")[0] for record in caplog.records] == [str(path) for path in paths[1:]]


def test_a_spoilt_file_is_an_error(tmp_path):
    (tmp_path / "a.cases.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"a\.cases\.json"):
        compare_settings(tmp_path / "a.pt", (64, 64))
