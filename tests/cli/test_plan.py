# SPDX-License-Identifier: Apache-2.0
"""Tests of ``sam2unet plan``."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from monai_sam2unet.cli import app
from monai_sam2unet.errors import DataError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    return tmp_path


def test_a_bundle_is_planned(phantoms: Path, home: Path):
    result = CliRunner().invoke(app, ["plan", str(phantoms), "--out", str(home / "own"), "--gpu-memory", "8"])
    assert result.exit_code == 0, result.output
    assert "12 images with masks" in result.output.replace("\n", " ")
    assert "encoder_size" in result.output
    assert (home / "own" / "plan.md").exists()
    assert list((home / ".cache" / "monai_sam2unet" / "surveys").iterdir())


def test_problems_are_an_error(home: Path):
    with pytest.raises(DataError, match="There is no folder"):
        CliRunner().invoke(app, ["plan", str(home / "none"), "--out", str(home / "own")], catch_exceptions=False)
    assert not (home / "own").exists()
