# SPDX-License-Identifier: Apache-2.0
"""Tests of what tells cases of a training from others: names, bytes, and the file beside a checkpoint."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from monai_sam2unet.data import TrainingCases, case_sha256
from monai_sam2unet.errors import CheckpointError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    for name in ("a", "b", "c"):
        (folder / "set" / "images").mkdir(parents=True, exist_ok=True)
        (folder / "set" / "images" / f"{name}.png").write_bytes(name.encode() * 3_000_000)
    return folder


def items(data: Path, *names: str) -> list[dict[str, str]]:
    return [{"image": str(data / "set" / "images" / f"{name}.png"), "dataset": "set"} for name in names]


def of(data: Path, dataset_dir: Path | str | None = None, **fold: int) -> TrainingCases:
    return TrainingCases.from_items(items(data, "a", "b"), items(data, "c"), dataset_dir or data, **fold)


def test_names_are_below_the_data_and_tell_no_machine(data: Path, monkeypatch: pytest.MonkeyPatch):
    cases = of(data, fold=0, num_folds=5)
    assert list(cases.training.values()) == ["set/images/a.png", "set/images/b.png"]
    assert cases.validation == {hashlib.sha256(b"c" * 3_000_000).hexdigest(): "set/images/c.png"}
    (data / "list.json").write_text("{}")
    assert of(data, data / "list.json").training == cases.training
    (data.parent / "link").symlink_to(data)
    assert of(data, data.parent / "link").training == cases.training
    (data.parent / "elsewhere").mkdir()
    assert list(of(data, data.parent / "elsewhere").training.values()) == ["set/a.png", "set/b.png"]
    monkeypatch.chdir(data.parent)
    assert of(Path("data"), "./data/../data").training == cases.training
    assert str(data.parent) not in cases.as_json()


def test_the_same_bytes_are_the_same_case(data: Path):
    moved = data.rename(data.parent / "moved")
    assert of(moved).training.keys() == {hashlib.sha256(byte * 3_000_000).hexdigest() for byte in (b"a", b"b")}
    series = moved / "series"
    series.mkdir()
    for number in (2, 1):
        (series / str(number)).write_bytes(bytes([number]))
    before = case_sha256(series)
    assert case_sha256([series / "2", series / "1"]) == before
    # Exported once more, under other names and in another order.
    (series / "1").rename(series / "3")
    assert case_sha256(series) == before
    (series / "3").unlink()
    assert case_sha256(series) == case_sha256(series / "2") == hashlib.sha256(b"\2").hexdigest() != before


def test_what_is_written_is_read(data: Path, tmp_path: Path):
    cases = of(data, fold=1, num_folds=3)
    TrainingCases.path_of(tmp_path / "fold1.pt").write_text(cases.as_json(), encoding="utf-8")
    assert (tmp_path / "fold1.cases.json").is_file()
    assert TrainingCases.of_checkpoint(tmp_path / "fold1.pt") == cases
    assert TrainingCases.of_checkpoint(tmp_path / "fold2.pt") is None


def test_what_the_weights_know_is_known(data: Path, tmp_path: Path):
    TrainingCases.path_of(tmp_path / "first.pt").write_text(of(data).as_json(), encoding="utf-8")
    parts = items(data, "c"), []
    second = TrainingCases.from_items(*parts, data, weights=tmp_path / "first.pt")
    assert sorted(second.earlier.values()) == [f"set/images/{name}.png" for name in "abc"]
    (a, _), (c,) = of(data).training, second.training
    assert second.uses_of(a) == [("known to the weights that the training started from", "set/images/a.png")]
    assert len(second.uses_of(c)) == 2
    TrainingCases.path_of(tmp_path / "second.pt").write_text(second.as_json(), encoding="utf-8")
    assert a in TrainingCases.from_items(*parts, data, weights=str(tmp_path / "second.pt")).earlier
    for weights in ("sam2.1", "random", None, tmp_path / "sam2_hiera_tiny.pt"):
        assert TrainingCases.from_items(*parts, data, weights=weights).earlier == {}


@pytest.mark.parametrize("text", ["", "[]", "{", json.dumps({"training": {}, "validation": []}), '{"training": {}}'])
def test_a_spoilt_file_is_an_error(tmp_path: Path, text: str):
    (tmp_path / "model.cases.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"model\.cases\.json"):
        TrainingCases.of_checkpoint(tmp_path / "model.pt")


def test_what_is_otherwise(data: Path):
    first = of(data)
    assert first.differences(of(data)) == []
    assert first.differences(TrainingCases.from_items(items(data, "a", "c"), items(data, "b"), data, 0, 5)) == [
        "fold: none then, 0 of 5 now",
        "set/images/b.png: trained on then, chosen by (validation) now",
        "set/images/c.png: chosen by (validation) then, trained on now",
    ]
    fewer = TrainingCases.from_items(items(data, "a"), items(data, "c"), data)
    assert first.differences(fewer) == ["set/images/b.png: trained on then, not used now"]
