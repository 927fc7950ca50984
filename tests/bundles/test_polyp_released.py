# SPDX-License-Identifier: Apache-2.0
"""Tests of the weights that come with the polyp bundle."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image
from safetensors import safe_open

from monai_sam2unet.bundle.known_cases import refuse_known_cases
from monai_sam2unet.data import TrainingCases
from monai_sam2unet.data.training_cases import case_sha256
from monai_sam2unet.errors import DataError
from monai_sam2unet.networks import SAM2UNet

#: The weights of each overlay.
OVERLAYS = {"released": "polyp_tiny", "released_352": "polyp_tiny_352"}


@pytest.fixture(scope="module", params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def weights(bundle: Path, overlay: str) -> Path:
    return bundle / "models" / f"{OVERLAYS[overlay]}.safetensors"


def test_the_model_card_is_of_this_file(bundle: Path, weights: Path) -> None:
    card = (bundle / "docs" / "model_card.md").read_text(encoding="utf-8")
    assert hashlib.sha256(weights.read_bytes()).hexdigest() in card
    assert f"{weights.stat().st_size / 1e6:.1f} MB" in card
    assert weights.stat().st_size < 16e6


def test_images_that_it_was_trained_on_are_known_and_refused(weights: Path, shared_data: Path, tmp_path: Path) -> None:
    cases = TrainingCases.of_checkpoint(weights)
    assert cases is not None
    known = cases.training.keys() | cases.validation.keys() | cases.earlier.keys()
    polyp = shared_data / "polyp"
    assert {case_sha256(path) for path in (polyp / "TrainDataset" / "images").iterdir()} == known
    assert not known & {case_sha256(path) for path in polyp.glob("TestDataset/*/images/*")}
    path = shutil.copy(next(iter((polyp / "TrainDataset" / "images").iterdir())), tmp_path / "another.png")
    with pytest.raises(DataError, match=r"another\.png"):
        refuse_known_cases([{"image": str(path)}], weights, tmp_path)


@pytest.mark.parametrize("config", ["evaluate", "inference"])
def test_the_overlay_fits_the_file(bundle: Path, weights: Path, overlay: str, config: str) -> None:
    parser = ConfigParser()
    parser.read_config([bundle / "configs" / f"{config}.yaml", bundle / "configs" / f"{overlay}.yaml"])
    parser["bundle_root"] = str(bundle)
    assert Path(parser.get_parsed_content("ckpt_path")) == weights
    cases = TrainingCases.of_checkpoint(weights)
    assert cases is not None
    assert cases.settings == {key: parser[key] for key in ("spatial_size", "sliding_window")}
    with torch.device("meta"):
        network = parser.get_parsed_content("network_def")
    assert isinstance(network, SAM2UNet)
    with safe_open(weights, "pt") as file:
        header, names = file.metadata(), set(file.keys())
    assert (header["encoder_size"], header["encoder_weights"]) == ("tiny", "sam2")
    assert names == {name for name in network.state_dict() if ".block." not in name and not is_frozen(name)}


def is_frozen(name: str) -> bool:
    return name.startswith("encoder.") and ".prompt_learn." not in name


@pytest.mark.slow
def test_it_finds_polyps_without_a_training(
    python_m, bundle: Path, overlay: str, shared_data: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    kvasir = shared_data / "polyp" / "TestDataset" / "Kvasir"
    (tmp_path / "images").mkdir()
    for path in sorted((kvasir / "images").iterdir())[:6]:
        (tmp_path / "images" / path.name).symlink_to(path)
    words = ["monai.bundle", "run", "inferring", "--num_workers", "0", "--overlays", "False"]
    words += ["--config_file", f"['configs/inference.yaml','configs/{overlay}.yaml']"]
    words += ["--dataset_dir", str(tmp_path / "images"), "--output_dir", str(tmp_path / "out")]
    done = python_m(words, cwd=bundle)
    assert done.returncode == 0, done.stderr[-3000:]
    dice = []
    for path in sorted((tmp_path / "out" / "masks").iterdir()):
        (truth_path,) = (kvasir / "masks").glob(f"{path.stem}.*")
        prediction, truth = (np.asarray(Image.open(file).convert("L")) > 127 for file in (path, truth_path))
        dice.append(2 * (prediction & truth).sum() / (prediction.sum() + truth.sum()))
    assert len(dice) == 6
    assert np.mean(dice) > 0.8
