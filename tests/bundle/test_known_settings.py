# SPDX-License-Identifier: Apache-2.0
"""Tests of networks that are given images otherwise than in their training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from monai_sam2unet.bundle import warn_of_other_settings
from monai_sam2unet.data import TrainingCases


@pytest.fixture
def checkpoint(tmp_path: Path):
    """Makes a checkpoint of a training with settings; its weights do not matter here."""

    def make(name: str, **settings: Any) -> Path:
        path = tmp_path / name
        TrainingCases.path_of(path).write_text(TrainingCases({}, {}, settings=settings).as_json())
        return path

    return make


@pytest.mark.parametrize("now", [[64, 96], (64, 96)])
def test_the_settings_of_the_training_are_no_news(checkpoint, caplog, now):
    whole = checkpoint("a.pt", spatial_size=[64, 96], sliding_window=True)
    warn_of_other_settings(whole, now, True)
    warn_of_other_settings(whole, now)
    warn_of_other_settings(whole, None)
    warn_of_other_settings(checkpoint("a.pt", spatial_size=[64, 96]), now, True)
    warn_of_other_settings(checkpoint("a.pt"), now, True)
    assert not caplog.records


def test_one_number_is_height_and_width(checkpoint, caplog):
    warn_of_other_settings(checkpoint("a.pt", spatial_size=64), [64, 64])
    warn_of_other_settings(checkpoint("a.pt", spatial_size=[64, 64]), 64)
    assert not caplog.records
    warn_of_other_settings(checkpoint("a.pt", spatial_size=64), 96)
    assert "spatial_size [64, 64], now [96, 96]." in caplog.text


@pytest.mark.parametrize(
    ("size", "windows", "told"),
    [
        ([96, 64], False, "spatial_size [64, 96], now [96, 64]. "),
        ([64, 96], True, "sliding_window false, now true. "),
        (None, True, "sliding_window false, now true. "),
        ([32, 32], True, "spatial_size [64, 96], now [32, 32]; sliding_window false, now true. "),
    ],
)
def test_other_settings_are_told(checkpoint, caplog, size, windows, told):
    path = checkpoint("a.pt", spatial_size=[64, 96], sliding_window=False)
    warn_of_other_settings(path, size, windows)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.message.startswith(f"{path} was trained with other settings: {told}")


def test_of_several_those_are_named_that_differ(checkpoint, caplog, tmp_path):
    paths = [checkpoint(f"{size}.pt", spatial_size=[size, size]) for size in (64, 96, 32)]
    warn_of_other_settings([*paths, tmp_path / "of which nothing is known.pt"], (64, 64), False)
    assert [record.message.split(" ")[0] for record in caplog.records] == [str(path) for path in paths[1:]]


def test_a_spoilt_file_is_told_of_and_the_next_one_is_read(checkpoint, caplog, tmp_path):
    (tmp_path / "a.cases.json").write_text("{")
    warn_of_other_settings([tmp_path / "a.pt", checkpoint("b.pt", spatial_size=[64, 96])], (64, 64))
    first, second = caplog.records
    assert "a.cases.json" in first.message
    assert second.message.startswith(f"{tmp_path / 'b.pt'} was trained with other settings")
