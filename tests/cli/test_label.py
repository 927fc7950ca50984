# SPDX-License-Identifier: Apache-2.0
"""Tests of `sam2unet label`: what it refuses before it begins. That it serves is in tests/label."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import re

import pytest
from typer.testing import CliRunner

from monai_sam2unet import cli
from monai_sam2unet.cli.label import label
from monai_sam2unet.errors import ConfigError


@pytest.fixture
def installed(monkeypatch):
    """As if MONAI Label were installed, wherever the tests run."""
    spec = importlib.machinery.ModuleSpec("monailabel", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)


def test_help():
    result = CliRunner(env={"COLUMNS": "200"}).invoke(cli.app, ["label", "--help"])
    text = " ".join(re.sub(r"\x1b\[[0-9;]*m|[│┃]", " ", result.stdout).split())
    for words in ("--studies", "--bundle", "--bundles", "--conf", "--host", "127.0.0.1", "--port", "8000"):
        assert words in text


def test_without_monai_label_it_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"not installed here\. In a clone: make label"):
        label(str(tmp_path))


def test_studies_must_be_there(tmp_path, installed):
    with pytest.raises(ConfigError, match=r"--studies: there is no folder .*none"):
        label(str(tmp_path / "none"))


def test_settings_are_pairs(tmp_path, installed):
    with pytest.raises(ConfigError, match=r"KEY=VALUE, as encoder_size=tiny; got spatial_size"):
        label(str(tmp_path), conf=["encoder_size=tiny", "spatial_size"])
