# SPDX-License-Identifier: Apache-2.0
"""Tests of the words of ``sam2unet ensemble``; what it predicts is tested in tests/bundles/test_ensemble.py."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from typer.testing import CliRunner

from monai_sam2unet.bundle.ensemble import ENSEMBLE_OVERLAY
from monai_sam2unet.cli import app, ensemble
from monai_sam2unet.data import TrainingCases
from monai_sam2unet.errors import ConfigError


@pytest.fixture
def call(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Gives what of a bundle would be run, and with which words."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.pt", "b.pt"):
        (tmp_path / name).touch()
    ran = []
    monkeypatch.setattr(ensemble, "run_bundle", lambda console, *words: ran.append(words))

    def run(*words: str, bundle: Path = repository / "bundles" / "polyp_segmentation") -> tuple:
        words = ("ensemble", str(bundle), *words, "--input", "images", "--output", "out")
        result = CliRunner().invoke(app, words, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return ran[-1]

    return run


def test_what_is_run(call, repository: Path, tmp_path: Path):
    run_id, configs, words, folder = call("a.pt", "b.pt", "--encoder_size", "tiny", "--overlays=False")
    bundle = repository / "bundles" / "polyp_segmentation"
    assert run_id == "inferring"
    assert ast.literal_eval(configs) == [str(bundle / "configs" / "inference.yaml"), str(ENSEMBLE_OVERLAY)]
    assert folder is None
    settings = dict(zip(words[:8:2], words[1:8:2], strict=True))
    assert ast.literal_eval(settings.pop("--ckpt_paths")) == [str(tmp_path / "a.pt"), str(tmp_path / "b.pt")]
    assert settings == {
        "--bundle_root": str(bundle),
        "--dataset_dir": str(tmp_path / "images"),
        "--output_dir": str(tmp_path / "out"),
    }
    assert words[8:] == ["--encoder_size", "tiny", "--overlays=False"]
    run_id, configs, *_ = call("a.pt", "--evaluate")
    assert run_id == "evaluating"
    assert ast.literal_eval(configs)[0] == str(bundle / "configs" / "evaluate.yaml")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--batch_size", "4"], "No checkpoint is named before --batch_size"),
        (["a.pt", "c.pt"], "There is no checkpoint c.pt"),
        (["a.pt", "--batch_size", "4", "b.pt"], "after all else; 'b.pt' is none"),
        (["a.pt", "--batch_size"], "'--batch_size' is none"),
        (["a.pt", "--ckpt-path", "b.pt"], "own words for some settings: --ckpt_path: CHECKPOINT"),
        (["a.pt", "--dataset_dir=x"], "--dataset_dir: --input"),
        (["a.pt", "b.pt", "--evaluate", "--fold", "0"], "What one fold leaves out, the networks of the others have"),
    ],
)
def test_wrong_words(call, words, message):
    with pytest.raises(ConfigError, match=message):
        call(*words)


def test_where_the_cases_are_known_the_evaluation_judges(call, tmp_path: Path):
    TrainingCases.path_of(tmp_path / "a.pt").write_text(TrainingCases({}, {}, 0, 5).as_json())
    with pytest.raises(ConfigError, match="What one fold leaves out"):
        call("a.pt", "b.pt", "--evaluate", "--fold", "0")
    assert call("a.pt", "--evaluate", "--fold", "0")[2][-2:] == ["--fold", "0"]


def test_no_bundle(call, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"is no bundle: it has no file configs/inference\.yaml"):
        call("a.pt", bundle=tmp_path)
