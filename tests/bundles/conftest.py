# SPDX-License-Identifier: Apache-2.0
"""Runs bundles as users do: ``python -m monai.bundle run`` from inside the bundle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ..warm_python import WarmPython

REQUIRED = (
    "schema", "version", "changelog", "monai_version", "pytorch_version", "numpy_version", "required_packages_version",
    "task", "description", "authors", "copyright", "network_data_format",
)  # fmt: skip
# Required entries and their types, where the zoo's own schema is not at hand (SAM2UNET_META_SCHEMA names it).
SCHEMA = {
    "type": "object",
    "required": list(REQUIRED),
    "properties": {
        **{name: {"type": "string"} for name in REQUIRED},
        **{name: {"type": "object"} for name in ("changelog", "required_packages_version")},
        "network_data_format": {
            "type": "object",
            "required": ["inputs", "outputs"],
            "additionalProperties": {
                "type": "object",
                "additionalProperties": {
                    "type": "object",
                    "required": ["type", "format", "num_channels", "spatial_shape", "dtype", "value_range"],
                    "properties": {
                        "num_channels": {"type": "integer"},
                        "spatial_shape": {"type": "array", "items": {"type": ["string", "integer"]}},
                        "value_range": {"type": "array", "items": {"type": "number"}},
                        "is_patch_data": {"type": "boolean"},
                        "channel_def": {"type": "object"},
                    },
                },
            },
        },
    },
}
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def zoo_schema(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The schema of metadata that the model zoo has."""
    schema = Path(os.environ.get("SAM2UNET_META_SCHEMA", tmp_path_factory.mktemp("schema") / "schema.json"))
    if not schema.exists():
        schema.write_text(json.dumps(SCHEMA))
    return schema


@pytest.fixture(scope="session")
def bundle(repository: Path) -> Path:
    return repository / "bundles" / "polyp_segmentation"


@pytest.fixture(scope="session")
def command(bundle: Path) -> Callable[..., list[str]]:
    """Command line of a run on the smallest network that there is."""

    def make(run_id: str, config: str, **overrides: object) -> list[str]:
        settings = {"encoder_size": "tiny", "spatial_size": "[64,64]", "num_workers": 0}
        if "train" in config:
            settings |= {"weights": "random", "max_epochs": 2, "batch_size": 4}
        files = config if config.startswith("[") else f"configs/{config}.yaml"
        words = [sys.executable, "-m", "monai.bundle", "run", run_id, "--config_file", files]
        for key, value in {**settings, **overrides}.items():
            words += [f"--{key}", str(value)]
        return words

    return make


@pytest.fixture(scope="session")
def run(bundle: Path, command: Callable[..., list[str]], python_m: WarmPython) -> Run:
    def start(
        run_id: str, config: str, check: bool = True, in_bundle: str = bundle.name, **overrides: object
    ) -> subprocess.CompletedProcess[str]:
        words = command(run_id, config, **overrides)
        folder = bundle.parent / in_bundle
        done = python_m(words[2:], cwd=folder)
        if check and done.returncode != 0:
            pytest.fail(f"{words}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        return done

    return start


@pytest.fixture(scope="session")
def trained(run: Run, phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a short training, whose checkpoints other tests read."""
    folder = tmp_path_factory.mktemp("trained")
    run("training", "train", dataset_dir=phantoms, ckpt_dir=folder, log_dir=folder / "runs")
    return folder
