# SPDX-License-Identifier: Apache-2.0
"""Tests of the console command: its help, its version, and what it says to mistakes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import entry_points

import pytest
from typer.testing import CliRunner

import monai_sam2unet
from monai_sam2unet import cli


def invoke(*words):
    """Run a command in this process; gives the exit code and all that was printed, without colours and frames."""
    result = CliRunner(env={"COLUMNS": "200"}).invoke(cli.app, words)
    return result.exit_code, " ".join(re.sub(r"\x1b\[[0-9;]*m|│", " ", result.output).split())


def run_process(*words, **environment):
    command = [sys.executable, "-m", "monai_sam2unet", *words]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200", **environment}
    )


def test_the_command_is_installed():
    (script,) = entry_points(group="console_scripts", name="sam2unet")
    assert script.load() is cli.main


def test_version_in_a_process():
    done = run_process("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{monai_sam2unet.__version__}\n", "")


def test_help():
    code, text = invoke("--help")
    assert code == 0
    for words in (
        "Start with `sam2unet demo`",
        "demo Train, evaluate and predict",
        "weights Weights: the published SAM 2 encoders",
    ):
        assert words in text


def test_no_command_shows_the_help():
    _, text = invoke()  # the exit code is that of typer's version
    assert "demo Train, evaluate and predict" in text


def test_help_of_weights():
    code, text = invoke("weights", "--help")
    assert code == 0
    assert "download Fetch an encoder from the Hugging Face hub" in text
    code, text = invoke("weights", "download", "--help")
    assert code == 0
    for words in ("tiny", "small", "base_plus", "large", "sam2|sam2.1", "default: sam2.1"):
        assert words in text


def test_help_of_the_demo_tells_the_defaults():
    code, text = invoke("demo", "--help")
    assert code == 0
    for words in ("--output", "default: demo", "--epochs", "default: 8", "--images", "default: 160"):
        assert words in text


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["weights", "download", "huge"], ["huge", "tiny", "small", "base_plus", "large"]),
        (["weights", "download", "tiny", "--version", "3"], ["--version", "sam2", "sam2.1"]),
        (["weights", "download"], ["Missing argument", "tiny"]),
        (["demo", "--epochs", "0"], ["--epochs", "1"]),
        (["demo", "--images", "9"], ["--images", "10"]),
        (["train"], ["No such command 'train'"]),
    ],
)
def test_wrong_words_are_told(words, told):
    code, text = invoke(*words)
    assert code == 2
    message = text[text.index("Error") :]
    for word in told:
        assert word in message


def test_an_error_that_can_be_mended_is_said_without_a_traceback(tmp_path):
    done = run_process("weights", "download", "tiny", HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path))
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: The weights facebook/sam2.1-hiera-tiny could not be fetched")
    assert "SAM2UNET_WEIGHTS" in done.stderr
    assert "Traceback" not in done.stderr
