# SPDX-License-Identifier: Apache-2.0
"""Runs bundles as users do: ``python -m monai.bundle run`` from inside the bundle."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


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
def run(bundle: Path, command: Callable[..., list[str]]) -> Run:
    def start(
        run_id: str, config: str, check: bool = True, in_bundle: str = bundle.name, **overrides: object
    ) -> subprocess.CompletedProcess[str]:
        words = command(run_id, config, **overrides)
        folder = bundle.parent / in_bundle
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=300)
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
