# SPDX-License-Identifier: Apache-2.0
"""Tests of `sam2unet info`: its tables, its JSON and what it says to mistakes."""

from __future__ import annotations

import json
import re

import pytest
from typer.testing import CliRunner

from monai_sam2unet import cli
from monai_sam2unet.errors import ConfigError


def invoke(*words, width="200"):
    """Run a command in this process; gives the exit code and all that was printed, without colours and frames."""
    result = CliRunner(env={"COLUMNS": width}).invoke(cli.app, ["info", *words])
    return result, " ".join(re.sub(r"\x1b\[[0-9;]*m|[│┃]", " ", result.output).split())


def facts(*words):
    result, _ = invoke(*words, "--json")
    assert result.exit_code == 0
    return json.loads(result.output)


def test_help():
    result, text = invoke("--help")
    assert result.exit_code == 0
    for words in (
        "--size",
        "default: large",
        "--lora-rank",
        "default: 8",
        "--adapter-channels",
        "default: 32",
        "--json",
    ):
        assert words in text


@pytest.mark.parametrize("width", ["80", "200"])
def test_the_tables(width):
    result, text = invoke("--size", "tiny", width=width)
    assert result.exit_code == 0
    for row in (
        "3 1/16 384 4 7 14x14 5, 7, 9",
        "adapters 29.4 M 2.59 M 8.8 % 10.4 20.7",
        "LoRA 29.3 M 2.47 M 8.4 % 9.9 19.8",
        "adapters and LoRA 29.6 M 2.73 M 9.2 % 11.0 21.9",
        "linear probe 29.2 M 2.32 M 8.0 % 9.3 18.6",
        "full fine-tuning 29.2 M 29.17 M 100.0 % 116.7 233.4",
        "GFLOP for an image of 352x352",
    ):
        assert row in text


@pytest.mark.parametrize(
    ("size", "channels", "blocks", "windows", "global_blocks"),
    [
        ("tiny", [96, 192, 384, 768], [1, 2, 7, 2], [8, 4, 14, 7], [[], [], [5, 7, 9], []]),
        ("small", [96, 192, 384, 768], [1, 2, 11, 2], [8, 4, 14, 7], [[], [], [7, 10, 13], []]),
        ("base_plus", [112, 224, 448, 896], [2, 3, 16, 3], [8, 4, 14, 7], [[], [], [12, 16, 20], []]),
        ("large", [144, 288, 576, 1152], [2, 6, 36, 4], [8, 4, 16, 8], [[], [], [23, 33, 43], []]),
    ],
)
def test_json_of_each_size(size, channels, blocks, windows, global_blocks):
    found = facts("--size", size, "--spatial-size", "64")
    stages = found["stages"]
    assert [stage["channels"] for stage in stages] == channels
    assert [stage["blocks"] for stage in stages] == blocks
    assert [stage["window"] for stage in stages] == windows
    assert [stage["global_blocks"] for stage in stages] == global_blocks
    assert found["spatial_size"] == 64
    assert 0 < found["gflop"]["encoder"] < found["gflop"]["network"]


def test_options_are_counted():
    plain = facts("--size", "tiny", "--spatial-size", "64")["choices"]
    other = facts(
        "--size", "tiny", "--spatial-size", "64", "--in-channels", "5", "--out-channels", "4",
        "--adapter-channels", "8", "--lora-rank", "2",
    )["choices"]  # fmt: skip
    patches, classes = 96 * (49 * 5 + 1), 3 * 65  # five channels make new filters; the trained output is one of three
    assert other["linear probe"]["trained"] == plain["linear probe"]["trained"] + patches + classes
    added = {name: plain[name]["trained"] - plain["linear probe"]["trained"] for name in plain}
    now = {name: other[name]["trained"] - other["linear probe"]["trained"] for name in other}
    assert now["LoRA"] == added["LoRA"] / 4
    assert now["adapters"] < added["adapters"] / 3
    assert other["LoRA"]["settings"] == {"adapter_channels": 0, "lora_rank": 2}


@pytest.mark.parametrize("words", [["--size", "huge"], ["--lora-rank", "0"], ["--spatial-size", "0"]])
def test_wrong_words_are_told(words):
    result, text = invoke(*words)
    assert result.exit_code == 2
    assert words[0] in text


def test_a_rank_that_cannot_be_is_told():
    result, _ = invoke("--size", "tiny", "--lora-rank", "97")
    assert isinstance(result.exception, ConfigError)
    assert "between 1 and 96, got 97" in str(result.exception)
