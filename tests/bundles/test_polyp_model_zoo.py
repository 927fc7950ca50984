# SPDX-License-Identifier: Apache-2.0
"""What MONAI's model zoo asks of a bundle."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.utils import set_determinism

from monai_sam2unet.networks import SAM2UNet

from ..warm_python import WarmPython


@pytest.fixture
def check_bundle_command(bundle: Path, python_m: WarmPython) -> Callable[..., None]:
    def check(*words: object) -> None:
        done = python_m(["monai.bundle", *words], cwd=bundle)
        assert done.returncode == 0, done.stderr[-3000:]

    return check


@pytest.mark.parametrize(("config", "kind"), [("train", "train"), ("evaluate", "infer"), ("inference", "infer")])
def test_required_properties(
    bundle: Path, phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str, kind: str
) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # the bundle sets its own
    settings = {"dataset_dir": str(phantoms), "encoder_size": "tiny", "weights": "random", "spatial_size": [64, 64]}
    folders = {"ckpt_dir": str(tmp_path), "log_dir": str(tmp_path), "output_dir": str(tmp_path)}
    path = bundle / "configs" / f"{config}.yaml"
    workflow = ConfigWorkflow(str(path), workflow_type=kind, **settings, **folders)
    workflow.initialize()
    assert workflow.check_properties() == []
    set_determinism(None)


@pytest.mark.parametrize("config", ["train", "evaluate", "inference"])
def test_run_ids(bundle: Path, config: str) -> None:
    content = ConfigParser.load_config_file(bundle / "configs" / f"{config}.yaml")
    verb = {"train": "training", "evaluate": "evaluating", "inference": "inferring"}[config]
    assert "run" in content
    assert content[verb] == "%run"


def test_versions_are_those_of_the_package_and_its_constraints(bundle: Path, repository: Path) -> None:
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    assert metadata["version"] in metadata["changelog"]
    lines = (repository / "constraints.txt").read_text().splitlines()
    pins = dict(line.lower().split("==") for line in lines if "==" in line)
    named = {"torch": "pytorch_version", "monai": "monai_version", "numpy": "numpy_version"}
    for package, key in named.items():
        assert metadata[key] == pins[package]
    for package, version in metadata["required_packages_version"].items():
        assert version == pins[package]


@pytest.mark.parametrize("config", ["train", "inference"])
def test_network_matches_the_metadata(check_bundle_command, config: str) -> None:
    check_bundle_command(
        "verify_net_in_out", "network_def", "--meta_file", "configs/metadata.json",
        "--config_file", f"configs/{config}.yaml", "--encoder_size", "tiny", "--weights", "random", "--n", "2",
    )  # fmt: skip


def test_exported_script_is_the_network(check_bundle_command, bundle: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = SAM2UNet(size="tiny", deep_supervision=True)
    torch.save(network.state_dict(), tmp_path / "model.pt")
    check_bundle_command(
        "ckpt_export", "network_def", "--filepath", str(tmp_path / "model.ts"),
        "--ckpt_file", str(tmp_path / "model.pt"), "--meta_file", "configs/metadata.json",
        "--config_file", "configs/inference.yaml", "--encoder_size", "tiny",
    )  # fmt: skip
    files = {"metadata.json": "", "inference.json": ""}
    script = torch.jit.load(tmp_path / "model.ts", _extra_files=files)
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    assert metadata.items() <= json.loads(files["metadata.json"]).items()
    assert json.loads(files["inference.json"])["network_def"]["_target_"] == "monai_sam2unet.networks.SAM2UNet"
    for shape in ((1, 3, 64, 96), (2, 3, 90, 70)):
        image = torch.randn(shape)
        with torch.no_grad():
            torch.testing.assert_close(script(image), network.eval()(image), rtol=1e-5, atol=1e-6)
