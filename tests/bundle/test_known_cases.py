# SPDX-License-Identifier: Apache-2.0
"""Tests of evaluations that would measure on what a network was trained on."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from monai_sam2unet.bundle import evaluation_datalist, refuse_known_cases, training_datalist
from monai_sam2unet.data import TrainingCases
from monai_sam2unet.errors import DataError


def checkpoint(path: Path, found: Mapping[str, Sequence], data: Path, fold: int | None = None) -> Path:
    """A checkpoint of a training on these cases; its weights do not matter here."""
    path.touch()
    cases = TrainingCases.from_items(found["training"], found["validation"], data, fold, 5)
    TrainingCases.path_of(path).write_text(cases.as_json(), encoding="utf-8")
    return path


@pytest.fixture
def folds(phantoms: Path, tmp_path: Path) -> dict[int, Path]:
    """Checkpoints of folds 0 and 1 of twelve phantoms."""
    return {
        fold: checkpoint(tmp_path / f"fold{fold}.pt", training_datalist(phantoms, fold=fold), phantoms, fold)
        for fold in (0, 1)
    }


def test_what_the_training_left_out_is_measured(folds: dict[int, Path], phantoms: Path, caplog):
    for fold, path in folds.items():
        refuse_known_cases(evaluation_datalist(phantoms, fold=fold), path, phantoms)
    refuse_known_cases(evaluation_datalist(phantoms), folds[0], phantoms)
    assert caplog.text == ""


def test_another_fold_is_refused_with_all_that_is_known(folds: dict[int, Path], phantoms: Path):
    own = evaluation_datalist(phantoms, fold=1)
    with pytest.raises(DataError, match=r"--allow_training_cases True") as error:
        refuse_known_cases(own, folds[0], phantoms)
    text = str(error.value)
    assert f"{len(own)} of the {len(own)} cases to be measured are known to {folds[0]}" in text
    assert "it left out fold 0" in text
    for item in own:
        assert f"TrainDataset/images/{Path(item['image']).name}: " in text
    everything = training_datalist(phantoms)
    with pytest.raises(DataError, match=r"chosen by \(validation\)"):
        refuse_known_cases(everything["validation"], checkpoint(folds[0], everything, phantoms), phantoms)


def test_data_that_lie_elsewhere_under_other_names_are_known(folds: dict[int, Path], phantoms: Path, tmp_path: Path):
    item = evaluation_datalist(phantoms, fold=1)[0]
    shutil.copy(item["image"], tmp_path / "x.png")
    with pytest.raises(DataError, match=r"1 of the 1 (.|\n)*x\.png: (.*), there TrainDataset/images/"):
        refuse_known_cases([{**item, "image": str(tmp_path / "x.png")}], folds[0], tmp_path)


def test_the_knob_lets_it_be(folds: dict[int, Path], phantoms: Path, caplog):
    refuse_known_cases(evaluation_datalist(phantoms, fold=1), folds[0], phantoms, allow=True)
    assert "scores on them flatter" in caplog.text


def test_of_an_older_checkpoint_nothing_is_known(phantoms: Path, tmp_path: Path, caplog):
    (tmp_path / "old.pt").touch()
    items = evaluation_datalist(phantoms, fold=1)
    refuse_known_cases(items, tmp_path / "old.pt", phantoms)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"{tmp_path / 'old.pt'} was trained on is not known, for there is no old.cases.json" in record.message
    caplog.clear()
    refuse_known_cases(items, tmp_path / "none.pt", phantoms)  # loading it says so
    assert caplog.text == ""


def test_networks_before_it_of_which_nothing_is_known_are_told(phantoms: Path, tmp_path: Path, caplog):
    cases = TrainingCases({"ab": "1.png"}, {}, unknown=("start.pt",))
    TrainingCases.path_of(tmp_path / "new.pt").write_text(cases.as_json(), encoding="utf-8")
    (tmp_path / "new.pt").touch()
    refuse_known_cases(evaluation_datalist(phantoms, fold=1), tmp_path / "new.pt", phantoms)
    (record,) = caplog.records
    assert f"The weights of {tmp_path / 'new.pt'} came from start.pt, too" in record.message


def test_the_same_names_of_other_files_are_only_told(folds: dict[int, Path], phantoms: Path, tmp_path: Path, caplog):
    image = training_datalist(phantoms, fold=0)["training"][0]["image"]
    other = tmp_path / Path(image).relative_to(phantoms)
    other.parent.mkdir(parents=True)
    other.write_bytes(Path(image).read_bytes() + b"\0")
    refuse_known_cases([{"image": str(other)}], folds[0], tmp_path)
    assert "1 cases, as TrainDataset/images/" in caplog.text
    assert "are other files" in caplog.text


def test_of_several_networks_each_counts(folds: dict[int, Path], phantoms: Path, tmp_path: Path, caplog):
    with pytest.raises(DataError, match="known to the networks") as error:
        refuse_known_cases(evaluation_datalist(phantoms, fold=0), list(folds.values()), phantoms)
    assert f"by {folds[1]}" in str(error.value)
    assert f"by {folds[0]}" not in str(error.value)
    same = checkpoint(tmp_path / "seed1.pt", training_datalist(phantoms, fold=0, seed=1), phantoms, 0)
    refuse_known_cases(evaluation_datalist(phantoms, fold=0), [folds[0], same], phantoms)
    assert caplog.text == ""


# ---- real images


def test_names_that_recur_in_other_sets_are_no_leak(shared_data: Path, tmp_path: Path, caplog):
    """PraNet's sets number their images each for itself; none of the test images is a file of the training set."""
    data = shared_data / "polyp"
    found, tests = training_datalist(data), evaluation_datalist(data)
    path = checkpoint(tmp_path / "model.pt", found, data)
    names = {Path(item["image"]).name for part in found.values() for item in part}
    assert sum(Path(item["image"]).name in names for item in tests) > 50
    assert len({item["dataset"] for item in tests}) == 3
    refuse_known_cases(tests, path, data)
    assert caplog.text == ""


def test_a_file_that_is_there_twice_is_a_leak(shared_data: Path, tmp_path: Path):
    """Frames 183 and 198 of CVC-300 are the same file, as are 190 and 203: `sam2unet data audit` finds them, too."""
    data = shared_data / "polyp" / "TestDataset" / "CVC-300"
    items = {Path(item["image"]).stem: item for item in evaluation_datalist(data)}
    twins = [items.pop("198"), items.pop("203")]
    left = items.pop("150")
    found = {"training": [items.pop("183"), *list(items.values())[10:]], "validation": list(items.values())[:10]}
    path = checkpoint(tmp_path / "model.pt", found, data)
    with pytest.raises(DataError) as error:
        refuse_known_cases([*twins, left], path, data)
    text = str(error.value)
    assert "2 of the 3 cases" in text
    assert "images/198.png: trained on, there images/183.png" in text
    assert "images/203.png: trained on, there images/190.png" in text
    assert "150" not in text.replace(str(tmp_path), "")  # pytest counts its folders
