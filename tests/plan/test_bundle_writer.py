# SPDX-License-Identifier: Apache-2.0
"""Tests of the files that follow from a plan: the shipped bundles are what their plans say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.plan import BundlePlan, render_configs, render_readme, write_bundle
from monai_sam2unet.plan.__main__ import main

REPOSITORY = Path(__file__).parents[2]
PLANS = sorted((REPOSITORY / "configs" / "plans").glob("*.yaml"))


def without_versions(text: str) -> str:
    """Metadata without the versions of packages, which are those of the machine that rendered them."""
    return re.sub(r'"(?!version")[a-z_-]+": "[0-9.]+"', "", text)


def test_there_is_a_plan_for_each_bundle():
    assert {path.stem for path in PLANS} == {path.name for path in (REPOSITORY / "bundles").iterdir()}


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_shipped_files_are_those_of_the_plan(path: Path):
    plan = BundlePlan.from_yaml(path)
    assert plan.name == path.stem
    folder = REPOSITORY / "bundles" / plan.name
    for name, text in render_configs(plan).items():
        shipped = (folder / "configs" / name).read_text(encoding="utf-8")
        assert without_versions(shipped) == without_versions(text), f"{name}: run `make bundles`"
    if plan.readme:
        assert (folder / "docs" / "README.md").read_text(encoding="utf-8") == render_readme(plan), "run `make bundles`"


def test_a_bundle_is_written_whole(tmp_path: Path):
    plan = BundlePlan.from_yaml(PLANS[0])
    folder = write_bundle(plan, tmp_path / "own")
    assert {path.name for path in (folder / "configs").iterdir()} == set(render_configs(plan))
    assert (folder / "models").is_dir()
    assert (folder / "docs" / "README.md").read_text() == render_readme(plan)
    assert (folder / "LICENSE").read_text() == (REPOSITORY / "LICENSE").read_text()
    assert "[LICENSE](../LICENSE)" in render_readme(plan)


def test_what_is_there_is_not_written_over(tmp_path: Path):
    with pytest.raises(ConfigError, match="exists already"):
        write_bundle(BundlePlan.from_yaml(PLANS[0]), tmp_path)


def test_the_command_writes_all_bundles(tmp_path: Path):
    app = Typer()
    app.command()(main)
    result = CliRunner().invoke(app, [str(REPOSITORY / "configs" / "plans"), str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert {path.name for path in tmp_path.iterdir()} == {path.stem for path in PLANS}
