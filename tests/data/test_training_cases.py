# SPDX-License-Identifier: Apache-2.0
"""Tests of what tells cases of a training from others: names, bytes, and the file beside a checkpoint."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from monai_sam2unet.data import TrainingCases, case_sha256
from monai_sam2unet.errors import CheckpointError
from monai_sam2unet.networks.light_checkpoint import LIGHT_FORMAT
from monai_sam2unet.weights_folder import WEIGHTS_VARIABLE


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
    settings = {"spatial_size": [64, 96], "sliding_window": False}
    cases = TrainingCases.from_items(items(data, "a"), items(data, "b"), data, 1, 3, settings=settings)
    TrainingCases.path_of(tmp_path / "fold1.pt").write_text(cases.as_json(), encoding="utf-8")
    assert (tmp_path / "fold1.cases.json").is_file()
    assert TrainingCases.of_checkpoint(tmp_path / "fold1.pt") == cases
    assert cases.with_earlier([of(data)]).settings == cases.settings == settings
    older = {key: value for key, value in cases.content().items() if key not in ("unknown", "settings")}
    assert TrainingCases.from_content(older, "fold1.pt") == replace(cases, settings={})
    assert TrainingCases.of_checkpoint(tmp_path / "fold2.pt") is None


def test_what_the_weights_know_is_known(data: Path, tmp_path: Path):
    for name in ("first.pt", "second.pt"):
        (tmp_path / name).touch()
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


def test_what_is_unknown_stays_unknown():
    first = TrainingCases({"ab": "1.png"}, {}, unknown=("a.pt",))
    again = TrainingCases.from_content(json.loads(first.as_json()), "model.pt")
    assert again.with_earlier([first, TrainingCases({}, {}, unknown=("b.pt",))]).unknown == ("a.pt", "b.pt")


@pytest.mark.parametrize("weights", ["~/mine.pt", "fold0", "weights/fold0.safetensors"])
def test_what_the_weights_know_is_found_where_they_are(data: Path, tmp_path: Path, monkeypatch, weights: str):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path / "weights"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").mkdir()
    for path in (tmp_path / "mine.pt", tmp_path / "weights" / "fold0.safetensors"):
        path.touch()
        TrainingCases.path_of(path).write_text(of(data).as_json(), encoding="utf-8")
    found = TrainingCases.from_items(items(data, "c"), [], data, weights=weights)
    assert sorted(found.earlier.values()) == [f"set/images/{name}.png" for name in "abc"]


ENCODER = {"patch_embed.proj.weight": torch.zeros(1)}
NETWORK = {f"encoder.{name}": value for name, value in ENCODER.items()}


@pytest.mark.parametrize(
    ("content", "is_network"),
    [
        (NETWORK, True),
        ({"model": {f"module.{name}": value for name, value in NETWORK.items()}}, True),
        ({"format": LIGHT_FORMAT, "frozen_sha256": "ab", "state_dict": {}}, True),
        (ENCODER, False),
        ({"model": {f"image_encoder.trunk.{name}": value for name, value in ENCODER.items()}}, False),
    ],
)
@pytest.mark.parametrize("is_zip", [True, False])
def test_weights_of_a_network_of_which_nothing_is_known(
    data: Path, tmp_path: Path, caplog, content, is_network, is_zip
):
    path = tmp_path / "start.pt"
    torch.save(content, path, _use_new_zipfile_serialization=is_zip)
    found = TrainingCases.from_items(items(data, "a"), [], data, weights=path)
    assert (found.earlier, found.unknown) == ({}, ("start.pt",) if is_network else ())
    assert (f"{path} was trained on is not known, for there is no start.cases.json" in caplog.text) == is_network
    assert bool(caplog.records) == is_network


def test_what_was_trained_of_a_network_may_be_unknown_too(data: Path, tmp_path: Path, caplog):
    for name, tensors, header in (("encoder", ENCODER, None), ("part", {}, {"frozen_sha256": "ab"})):
        save_file(tensors, tmp_path / f"{name}.safetensors", header)
        TrainingCases.from_items(items(data, "a"), [], data, weights=tmp_path / f"{name}.safetensors")
    (record,) = caplog.records
    assert "no part.cases.json" in record.message


WHOLE = {"training": {}, "validation": {}, "earlier": {}, "fold": None, "num_folds": None}


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{", json.dumps({"training": {}, "validation": []}), '{"training": {}}',
        json.dumps({**WHOLE, "settings": "352"}), json.dumps({**WHOLE, "settings": [352]}),
    ],
)  # fmt: skip
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
