# SPDX-License-Identifier: Apache-2.0
"""Tests of measuring bundles: command lines that the bundles take, and the table."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from benchmarks.bundle_results import DATA, STARTS, commands_of
from benchmarks.bundle_run import BUNDLES
from benchmarks.bundle_table import draw, markdown, read_runs


@pytest.mark.parametrize("bundle", DATA)
@pytest.mark.parametrize("start", STARTS)
def test_the_bundles_have_the_settings(bundle: str, start: str):
    network = {"encoder_size": "tiny", "spatial_size": "[256,256]", "precision": "bf16", "num_workers": 0}
    training = {"weights": "sam2.1", "max_epochs": 2, "batch_size": 4}
    commands = commands_of(bundle, start, training, network, 0)
    for config, words in (("train", commands.train), ("evaluate", commands.evaluate["eval"])):
        known = yaml.safe_load((BUNDLES / bundle / "configs" / f"{config}.yaml").read_text())
        given = {word.removeprefix("--") for word in words[7::2]}
        assert given <= known.keys()
    assert ("random" in commands.train) == (start == "random")


def test_the_table_and_the_figure(tmp_path: Path):
    folder = tmp_path / "nuclei_segmentation" / "pretrained"
    folder.mkdir(parents=True)
    summary = {"images": 12, "mean_dice": 0.75, "interval_dice": [0.7, 0.8]}
    (folder / "summary.json").write_text(json.dumps({"sets": {"dsb": summary}, "shared": {"max_epochs": 3}}))
    pd.DataFrame({"dice": [0.7, 0.8]}).to_csv(folder / "metrics.csv", index=False)
    runs = read_runs(tmp_path)
    expected = "| `nuclei_segmentation` | 12 | 3 | 0.750 (0.700 to 0.800) | not measured |"
    assert markdown(runs).splitlines()[-1] == expected
    draw(runs, tmp_path / "dice.png")
    assert (tmp_path / "dice.png").stat().st_size > 1000
