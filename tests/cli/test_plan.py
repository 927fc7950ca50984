# SPDX-License-Identifier: Apache-2.0
"""Tests of ``sam2unet plan``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from monai_sam2unet.cli import app
from monai_sam2unet.errors import ConfigError, DataError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    return tmp_path


def test_a_bundle_is_planned(phantoms: Path, home: Path):
    result = CliRunner().invoke(app, ["plan", str(phantoms), "--out", str(home / "own"), "--gpu-memory", "8"])
    assert result.exit_code == 0, result.output
    assert "12 cases" in " ".join(result.output.split())
    assert "encoder_size" in result.output
    assert (home / "own" / "plan.md").exists()
    assert list((home / ".cache" / "monai_sam2unet" / "surveys").iterdir())


def test_data_for_nnunet_beside_the_bundle_or_alone(phantoms: Path, heart_volumes: Path, home: Path):
    words = ["plan", str(phantoms), "--gpu-memory", "8", "--export-nnunet", str(home / "raw")]
    result = CliRunner().invoke(app, [*words, "--out", str(home / "own")])
    assert result.exit_code == 0, result.output
    dataset = home / "raw" / f"Dataset501_{phantoms.name}"
    assert (dataset / "splits_final.json").is_file()
    assert f"nnUNet_preprocessed/{dataset.name}" in result.output.replace("\n", "")
    assert (home / "own" / "plan.md").exists()
    words = ["plan", str(heart_volumes), "--export-nnunet", str(home / "raw"), "--modality", "mr"]
    result = CliRunner().invoke(app, [*words, "--classes", "RV, MYO, LV"])
    assert result.exit_code == 0, result.output
    labels = json.loads((home / "raw" / f"Dataset502_{heart_volumes.name}" / "dataset.json").read_text())["labels"]
    assert labels == {"background": 0, "RV": 1, "MYO": 2, "LV": 3}


def test_nothing_to_write_is_an_error(phantoms: Path):
    with pytest.raises(ConfigError, match=r"--out.*--export-nnunet"):
        CliRunner().invoke(app, ["plan", str(phantoms)], catch_exceptions=False)


def test_problems_are_an_error(home: Path):
    with pytest.raises(DataError, match="There is no folder"):
        CliRunner().invoke(app, ["plan", str(home / "none"), "--out", str(home / "own")], catch_exceptions=False)
    assert not (home / "own").exists()
