# SPDX-License-Identifier: Apache-2.0
"""Tests of `sam2unet compare`: what it prints and writes, what it says to mistakes, and that it is quick."""

from __future__ import annotations

import re
import time

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from monai_sam2unet import cli
from monai_sam2unet.errors import ConfigError
from monai_sam2unet.evaluation.comparison import compare_scores


def invoke(*words, width="200"):
    """Run a command in this process; gives the result, and all that was printed without colours and frames."""
    result = CliRunner(env={"COLUMNS": width}).invoke(cli.app, [str(word) for word in words])
    return result, " ".join(re.sub(r"\x1b\[[0-9;]*m|[│┃]", " ", result.output).split())


@pytest.fixture
def folders(tmp_path):
    """A and B with Dice and MAE of ten images; B's Dice is 0.1 better in eight of them, its MAE 0.01 worse in all."""
    dice = np.linspace(0.5, 0.8, 10)
    better = dice + 0.1 * (np.arange(10) < 8)
    for name, values, mae in (("a", dice, 0.02), ("b", better, 0.03)):
        (tmp_path / name).mkdir()
        table = pd.DataFrame({"dataset": "Kvasir", "image": [f"{i}.png" for i in range(10)], "height": 8, "width": 9})
        table.assign(dice=values, mae=mae, **{f"only_{name}": 1.0}).to_csv(tmp_path / name / "metrics.csv", index=False)
    return tmp_path / "a", tmp_path / "b"


def test_help():
    result, text = invoke("compare", "--help")
    assert result.exit_code == 0
    for words in ("--metric", "--output", "--allow-unpaired", "--confidence", "default: 0.95", "--seed", "--names"):
        assert words in text


def test_table(folders):
    result, text = invoke("compare", *folders, "--names", "base", "new")
    assert result.exit_code == 0, result.output
    assert "new against base" in text
    assert re.search(r"Kvasir dice 10 0\.6500 0\.7300 \+0\.0800 \+0\.0\d+ to \+0\.\d+ 0\.00\d 0\.00\d 8/0/2", text)
    assert re.search(r"Kvasir mae ↓ 10 0\.0200 0\.0300 \+0\.0100 \+0\.0100 to \+0\.0100 0\.00\d 0\.00\d 0/10/0", text)
    assert "adjusted for the 2 tests" in text
    assert "Not compared, for only base has it as numbers: only_a" in text
    assert "Not compared, for only new has it as numbers: only_b" in text


def test_a_narrow_screen_cuts_no_number(folders):
    _, text = invoke("compare", *folders, width="60")
    assert "Kvasir dice 10 0.6500 0.7300 +0.0800" in text


def test_files_are_written_where_asked(folders, tmp_path):
    result, _ = invoke("compare", *folders, "--metric", "dice", "--output", tmp_path / "out")
    assert result.exit_code == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "comparison.csv",
        "comparison.json",
        "comparison.png",
    ]
    assert pd.read_csv(tmp_path / "out" / "comparison.csv")["metric"].tolist() == ["dice"]


def test_settings_arrive(folders):
    def interval(*words):
        return re.search(r"dice 10 .*?(\+\S+ to \+\S+)", invoke("compare", *folders, *words)[1]).group(1)

    usual = interval()
    assert interval() == usual
    assert interval("--confidence", "0.5") != usual
    _, text = invoke("compare", *folders, "--lower-is-better", "dice", "--confidence", "0.9")
    assert "dice ↓" in text
    assert "90 % interval" in text


def test_images_without_partner(folders):
    a, b = folders
    table = pd.read_csv(b / "metrics.csv").iloc[1:]
    table.to_csv(b / "metrics.csv", index=False)
    result, _ = invoke("compare", a, b)
    assert result.exit_code == 1
    assert "only in A: Kvasir: 0.png" in str(result.exception)
    result, text = invoke("compare", a, b, "--allow-unpaired")
    assert result.exit_code == 0
    assert "Only in A, so left out: 1 images: Kvasir: 0.png" in text
    assert "Kvasir dice 9" in text


def test_scores_of_one_side_only_are_told(folders):
    a, b = folders
    table = pd.read_csv(b / "metrics.csv")
    table.loc[3, "dice"] = None
    table.to_csv(b / "metrics.csv", index=False)
    _, text = invoke("compare", a, b)
    assert "have a score in one of the two only, so left out of its row: Kvasir, dice: 1" in text


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--metric", "iou"], "iou can not be compared"),
        (["--names", "x", "x"], "two different names"),
        (["--confidence", "95"], "must lie between 0 and 1"),
        (["--lower-is-better", "iou"], "iou is not compared"),
    ],
)
def test_wrong_words_are_told(folders, words, told):
    result, _ = invoke("compare", *folders, *words)
    assert result.exit_code == 1
    assert told in str(result.exception)


def test_measured_differently(folders):
    for folder, threshold in zip(folders, (0.5, 0.3), strict=True):
        (folder / "summary.json").write_text(f'{{"settings": {{"scores": {{"threshold": {threshold}}}}}}}')
    result, _ = invoke("compare", *folders)
    assert result.exit_code == 1
    assert "threshold: 0.5 of A, 0.3 of B" in str(result.exception)
    result, text = invoke("compare", *folders, "--allow-different-settings")
    assert result.exit_code == 0
    assert "Measured differently: threshold: 0.5 of A, 0.3 of B." in text


def test_unknown_settings_are_told(folders):
    _, text = invoke("compare", *folders)
    assert "How A was measured is not known" in text
    assert "How B was measured is not known" in text


def test_repeated_scores_count_once(folders):
    result, text = invoke("compare", *folders, "--metric", "dice,dice,mae,dice")
    assert result.exit_code == 0, result.exception
    assert text.count("Kvasir dice") == 1
    assert "adjusted for the 2 tests" in text


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/nix"])
def test_a_wrong_output_is_told_before_the_work(folders, tmp_path, place):
    (tmp_path / "file").write_text("")
    result, text = invoke("compare", *folders, "--output", tmp_path / place)
    assert isinstance(result.exception, ConfigError)
    assert "cannot hold the results (`--output`)" in str(result.exception)
    assert "\n" not in str(result.exception)
    assert "Kvasir" not in text


def test_names_are_no_markup(folders, tmp_path):
    for folder in folders:
        table = pd.read_csv(folder / "metrics.csv").assign(dataset="set [bold]x[/bold] :smile:")
        table.loc[0, "dataset"] = "[/]"
        table.to_csv(folder / "metrics.csv", index=False)
    words = ("--names", "[red]a", "[/b]", "--output", tmp_path / "[dim]out")
    result, text = invoke("compare", *folders, *words, width="400")
    assert result.exit_code == 0, result.exception
    for shown in ("[/b] against [red]a", "set [bold]x[/bold] :smile:", "[/] dice", "[dim]out", "only [red]a has it"):
        assert shown in text


def test_222_images_and_20_scores_take_seconds(tmp_path):
    rng = np.random.default_rng(0)
    for name in "ab":
        table = pd.DataFrame(rng.uniform(size=(222, 20)), columns=[f"score{i}" for i in range(20)])
        table.insert(0, "dataset", ["Kvasir"] * 100 + ["CVC-ClinicDB"] * 62 + ["CVC-300"] * 60)
        table.insert(1, "image", [f"/{name}/{i}.png" for i in range(222)])
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    start = time.perf_counter()
    assert len(compare_scores(tmp_path / "a.csv", tmp_path / "b.csv").table) == 80
    assert time.perf_counter() - start < 8
