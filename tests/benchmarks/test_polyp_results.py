# SPDX-License-Identifier: Apache-2.0
"""Tests of the runs behind the polyp results: what is run, and what a second call does."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml
from typer import Typer
from typer.testing import CliRunner

from benchmarks import polyp_results
from benchmarks.polyp_recipes import RECIPES
from benchmarks.polyp_results import BUNDLE, main

app = Typer()
app.command()(main)


class Bundle:
    """In place of `monai.bundle run`: writes what the runs write, and keeps their command lines."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.stops_at: int | None = None

    def __call__(self, command: list[str], **options: object) -> None:
        self.commands.append(command)
        values = dict(zip(command[5::2], command[6::2], strict=True))
        if "training" in command:
            Path(values["--ckpt_dir"]).mkdir(exist_ok=True)
            (Path(values["--ckpt_dir"]) / "last.pt").touch()
        if self.stops_at == len(self.commands):
            raise subprocess.TimeoutExpired(command, 1)
        if "evaluating" in command:
            folder = Path(values["--output_dir"])
            folder.mkdir(exist_ok=True)
            (folder / "summary.json").write_text(json.dumps({"sets": {"Kvasir": {"images": 1, "mean_dice": 0.5}}}))
            (folder / "metrics.csv").write_text("dataset,image,dice\n")


@pytest.fixture
def bundle(monkeypatch) -> Bundle:
    fake = Bundle()
    monkeypatch.setattr(polyp_results.subprocess, "run", fake)
    return fake


@pytest.fixture
def call(tmp_path):
    def invoke(*words: object):
        places = ("--dataset-dir", tmp_path, "--output", tmp_path / "out", "--work-dir", tmp_path / "work")
        return CliRunner().invoke(app, [str(word) for word in (*places, *words)])

    return invoke


def keys(config: str) -> set[str]:
    return set(yaml.safe_load((BUNDLE / "configs" / config).read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", list(RECIPES))
def test_every_recipe_sets_what_the_bundle_has(bundle, call, name) -> None:
    result = call("--recipes", name, "--seeds", 1)
    assert result.exit_code == 0, result.output
    train, evaluate = (dict(zip(command[5::2], command[6::2], strict=True)) for command in bundle.commands)
    assert {word[2:] for word in train} - {"config_file"} <= keys("train.yaml")
    assert {word[2:] for word in evaluate} - {"config_file"} <= keys("evaluate.yaml")
    assert "paper.yaml" in train["--config_file"]
    for key, value in RECIPES[name].network.items():
        assert train[f"--{key}"] == evaluate[f"--{key}"] == str(value)
    assert float(train["--max_epochs"]) == 20 * RECIPES[name].epochs < float(train["--val_interval"])


def test_runs_are_done_once_and_gathered(bundle, call, tmp_path) -> None:
    assert call("--recipes", "baseline", "--seeds", "0,1").exit_code == 0
    assert call("--recipes", "baseline,LoRA of rank 8", "--seeds", "0").exit_code == 0
    assert len(bundle.commands) == 3 * 2
    runs = json.loads((tmp_path / "out" / "results.json").read_text())["runs"]
    assert [(run["recipe"], run["seed"]) for run in runs.values()] == [
        ("baseline", 0),
        ("baseline", 1),
        ("LoRA of rank 8", 0),
    ]
    assert {file.name for file in (tmp_path / "out").glob("*.csv")} == {f"{key}.csv" for key in runs}
    assert str(tmp_path) not in (tmp_path / "out" / "results.json").read_text()


def test_a_run_that_was_stopped_goes_on(bundle, call) -> None:
    bundle.stops_at = 1
    result = call("--recipes", "baseline", "--seeds", 0, "--minutes", 5)
    assert result.exit_code == 1
    assert "goes on from here" in result.output
    assert call("--recipes", "baseline", "--seeds", 0).exit_code == 0
    assert bundle.commands[1] == [*bundle.commands[0], "--resume", "True"]


def test_no_time_left(bundle, call) -> None:
    assert call("--recipes", "baseline", "--seeds", 0, "--minutes", 0).exit_code == 1
    assert not bundle.commands


def test_other_settings_are_refused(bundle, call) -> None:
    assert call("--recipes", "baseline", "--seeds", 0).exit_code == 0
    result = call("--recipes", "baseline", "--seeds", 0, "--size", 256)
    assert "holds a run with other settings" in result.output


def test_unknown_recipes_are_refused(call) -> None:
    result = call("--recipes", "magic")
    assert result.exit_code == 2
    assert "magic is not known" in result.output
