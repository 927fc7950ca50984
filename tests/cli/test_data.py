# SPDX-License-Identifier: Apache-2.0
"""Tests of `sam2unet data audit`: what it prints and writes, and its exit codes."""

from __future__ import annotations

import re
import shutil

import pytest
from typer.testing import CliRunner

from monai_sam2unet import cli
from monai_sam2unet.cli.data import DISTANCE
from monai_sam2unet.data.duplicates import MAX_DISTANCE
from monai_sam2unet.errors import ConfigError, DataError


def invoke(*words):
    """Run a command in this process; gives the result, and all that was printed without colours and frames."""
    result = CliRunner(env={"COLUMNS": "200"}).invoke(cli.app, [str(word) for word in words])
    return result, " ".join(re.sub(r"\x1b\[[0-9;]*m|[│┃]", " ", result.output).split())


@pytest.fixture
def dataset(phantoms, tmp_path):
    """Phantoms in PraNet's layout, of which one test image is a training image, too."""
    folder = tmp_path / "dataset"
    shutil.copytree(phantoms, folder)
    source = sorted((folder / "TrainDataset" / "images").iterdir())[0]
    (test,) = (folder / "TestDataset").iterdir()
    shutil.copy(source, sorted((test / "images").iterdir())[0])
    return folder


def test_help():
    result, text = invoke("data", "--help")
    assert result.exit_code == 0
    assert "audit Find test images that are in the training set" in text
    result, text = invoke("data", "audit", "--help")
    assert DISTANCE == MAX_DISTANCE
    for words in ("--max-distance", "default: 64", "--output", "--within", "The training images"):
        assert words in text


def test_a_leaked_image_is_counted(dataset, tmp_path):
    result, text = invoke("data", "audit", dataset, dataset, "--output", tmp_path / "out")
    assert result.exit_code == 0
    (name,) = (p.name for p in (dataset / "TestDataset").iterdir())
    assert f"TrainDataset (12) {name} 4 1 0 1 25.0 %" in text
    assert "itself" not in text
    for file in ("duplicates.csv", "duplicates.json", "duplicates.png"):
        assert (tmp_path / "out" / file).stat().st_size > 100
        assert f"Written: {tmp_path / 'out' / file}" in result.output


def test_nothing_is_written_unasked(dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    result, _ = invoke("data", "audit", dataset, dataset)
    assert result.exit_code == 0
    assert sorted(tmp_path.rglob("*")) == before


def test_within_and_several_test_folders(dataset):
    train = dataset / "TrainDataset"
    (test,) = (dataset / "TestDataset").iterdir()
    result, text = invoke("data", "audit", train / "images", test, train, "--within")
    assert result.exit_code == 0
    assert f"TrainDataset (12) {test.name} 4 1 0 1 25.0 %" in text
    assert "TrainDataset (12) TrainDataset 12 12 0 12 100.0 %" in text
    assert f"{test.name} (4) itself 4 0 0 0 0.0 %" in text


def test_unreadable_files_are_named_and_the_rest_is_done(dataset, tmp_path):
    broken = dataset / "TrainDataset" / "images" / "broken.png"
    broken.write_bytes(b"no image")
    result, text = invoke("data", "audit", dataset, dataset, "--output", tmp_path / "out")
    assert result.exit_code == 1
    assert isinstance(result.exception, DataError)
    assert "All other images are done, but 1 could not be read" in str(result.exception)
    assert str(broken) in str(result.exception)
    assert "TrainDataset (12)" in text
    assert str(broken) in (tmp_path / "out" / "duplicates.json").read_text()


def test_one_name_twice_is_told(dataset):
    result, _ = invoke("data", "audit", dataset, dataset, dataset / "TestDataset")
    assert result.exit_code == 1
    assert "Two test sets have the name" in str(result.exception)


def test_wrong_words_are_told(dataset):
    result, text = invoke("data", "audit", dataset, dataset, "--max-distance", 300)
    assert result.exit_code == 2
    assert "256" in text[text.index("Error") :]
    result, _ = invoke("data", "audit", dataset / "missing", dataset)
    assert "There is no folder" in str(result.exception)
    for folders in ((dataset / "missing", dataset), (dataset, dataset / "missing")):
        result, _ = invoke("data", "audit", *folders)
        assert f"There is no folder {dataset / 'missing'}" in str(result.exception)
        assert "--dataset_dir" not in str(result.exception)


def test_plain_folders_of_images_are_told_of(dataset, tmp_path):
    (tmp_path / "empty").mkdir()
    result, _ = invoke("data", "audit", dataset, tmp_path / "empty")
    assert isinstance(result.exception, DataError)
    assert f"There are no images in {tmp_path / 'empty'} itself" in str(result.exception)
    assert "a plain folder of images (.png, " in str(result.exception)


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/nix"])
def test_a_wrong_output_is_told_before_the_work(dataset, tmp_path, place):
    (tmp_path / "file").write_text("")
    result, text = invoke("data", "audit", dataset, dataset, "--output", tmp_path / place)
    assert isinstance(result.exception, ConfigError)
    assert "cannot hold the results (`--output`)" in str(result.exception)
    assert "Duplicates between" not in text


def test_names_are_no_markup(dataset, tmp_path):
    (test,) = (dataset / "TestDataset").iterdir()
    shutil.copytree(test / "images", tmp_path / "[red]$\\nix$ :smile:")
    shutil.copytree(test / "images", tmp_path / "[b]x")
    words = (tmp_path / "[red]$\\nix$ :smile:", "--output", tmp_path / "[dim]out")
    result, text = invoke("data", "audit", tmp_path / "[b]x", *words)
    assert result.exit_code == 0, result.exception
    assert "[b]x (4) [red]$\\nix$ :smile: 4 4 0 4 100.0 %" in text
    assert "[dim]out" in text
