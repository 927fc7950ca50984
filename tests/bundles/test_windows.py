# SPDX-License-Identifier: Apache-2.0
"""Bundles over windows at the images' own resolution."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from monai.bundle import ConfigParser
from monai.inferers import SlidingWindowInferer
from monai.losses import SoftclDiceLoss
from monai.transforms import RandCropByPosNegLabeld
from PIL import Image

from monai_sam2unet.export import export_program, open_exported
from monai_sam2unet.export.bundle_parts import read_bundle
from monai_sam2unet.inferers import AutocastInferer
from monai_sam2unet.networks import SAM2UNet
from monai_sam2unet.plan import BundlePlan

CONFIGS = ("train", "evaluate", "inference")


@pytest.fixture
def retina(repository: Path) -> Path:
    return repository / "bundles" / "retinal_vessel_segmentation"


def parse(bundle: Path, config: str, **settings: Any) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(bundle / "configs" / f"{config}.yaml")
    parser.update({"encoder_size": "tiny", "weights": "random", "device": "cpu", "num_workers": 0, **settings})
    return parser


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("windows", [True, False])
def test_windows_are_a_setting(retina: Path, phantoms: Path, config: str, windows: bool) -> None:
    settings = {"dataset_dir": str(phantoms), "spatial_size": [64, 64], "sliding_window": windows}
    parser = parse(retina, config, **settings)
    assert parser.get_parsed_content("preset").fit["spatial_size"] == (None if windows else [64, 64])
    inferer = parser.get_parsed_content("validate::inferer" if config == "train" else "inferer").inferer
    assert isinstance(inferer, SlidingWindowInferer) == windows
    if windows:
        assert (inferer.roi_size, inferer.padding_mode) == ([64, 64], "replicate")
    if config == "train":
        drawn = [type(t) for t in parser.get_parsed_content("train::random_transforms")]
        assert (RandCropByPosNegLabeld in drawn) == windows
        assert parser.get_parsed_content("validate::dataloader").batch_size == (1 if windows else 3)


def test_the_retina_bundle_is_made_for_vessels(retina: Path, repository: Path) -> None:
    assert BundlePlan.from_yaml(repository / "configs" / "plans" / f"{retina.name}.yaml").sliding_window
    found = {config: yaml.safe_load((retina / "configs" / f"{config}.yaml").read_text()) for config in CONFIGS}
    assert all(content["sliding_window"] for content in found.values())
    assert found["evaluate"]["centerline"]
    assert found["train"]["batch_size"] * found["train"]["num_samples"] == 12
    losses = parse(retina, "train").get_parsed_content("loss").loss.losses
    assert isinstance(losses[-1], SoftclDiceLoss)


@pytest.mark.parametrize("width", [6, 13, 20])
def test_a_gap_in_a_thick_vessel_is_learned_from(retina: Path, width: int) -> None:
    """Of the loss of the bundle the part that is clDice; MONAI's own 3 erosions see a vessel of 6 pixels only."""
    truth = torch.zeros(1, 1, 96, 96)
    truth[..., 30 : 30 + width] = 1
    logits = 12 * truth - 6
    gap = (..., slice(40, 52), slice(30, 30 + width))
    logits[gap] = -6

    def gradient(**settings: int) -> float:
        loss = parse(retina, "train", **settings).get_parsed_content("loss").loss.losses[-1]
        own = logits.clone().requires_grad_()
        loss(own, truth).backward()
        return float(-own.grad[gap].sum())

    found = gradient()
    assert found > 1e-4
    assert (gradient(cldice_iterations=3) < found / 100) == (width > 8)


def test_a_training_steps_through_windows(retina: Path, phantoms: Path) -> None:
    settings = {"dataset_dir": str(phantoms), "spatial_size": [64, 64], "batch_size": 2, "num_samples": 3}
    batch = next(iter(parse(retina, "train", **settings).get_parsed_content("train::dataloader")))
    assert batch["image"].shape == (6, 3, 64, 64)
    assert batch["label"].shape == (6, 1, 64, 64)
    assert batch["label"].mean() > 0  # of a picture without windows around its object, often 0


@pytest.mark.slow
def test_a_training_over_windows_is_evaluated_and_predicts(run, phantoms: Path, tmp_path: Path) -> None:
    """Of the polyp bundle, since every bundle can; once as trained, once rebuilt for inference."""
    shared = {"sliding_window": "True", "dataset_dir": phantoms}
    run("training", "train", ckpt_dir=tmp_path, log_dir=tmp_path / "runs", num_samples=2, cldice_weight=0.5, **shared)
    shared |= {"ckpt_path": tmp_path / "model.pt", "flips": "['columns']", "sw_overlap": 0.5}
    run("evaluating", "evaluate", output_dir=tmp_path / "eval", centerline="True", report="False", **shared)
    frame = pd.read_csv(tmp_path / "eval" / "metrics.csv")
    assert frame["cldice"].between(0, 1).all()
    tests, masks = phantoms / "TestDataset", []
    for optimize in ("True", "False"):
        out = tmp_path / f"optimized {optimize}"
        run("inferring", "inference", output_dir=out, optimize=optimize, **{**shared, "dataset_dir": tests})
        files = sorted((out / "masks").rglob("*.png"))
        masks.append({str(file.relative_to(out / "masks")): np.asarray(Image.open(file)) for file in files})
    assert masks[0].keys() == masks[1].keys()
    assert all((masks[0][name] != masks[1][name]).mean() < 1e-3 for name in masks[0])
    names = [str(Path(image).relative_to(tests).with_suffix(".png")) for image in frame["image"]]
    assert [masks[0][name].shape for name in names] == list(zip(frame["height"], frame["width"], strict=True))


def test_a_file_fixed_to_one_window_is_run_over_windows(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = SAM2UNet(size="tiny").eval()
    path = export_program(network, tmp_path / "model.pt2", spatial_size=(64, 64), batch_size=1)
    windows = SlidingWindowInferer((64, 64), sw_batch_size=1, mode="gaussian", padding_mode="replicate")
    image, inferer = torch.rand(1, 3, 50, 100), AutocastInferer("fp32", inferer=windows)
    with torch.no_grad():
        expected = inferer(image, network)
        torch.testing.assert_close(inferer(image, open_exported(path)), expected, rtol=0, atol=1e-4)


def test_an_export_is_given_windows_to_calibrate_with(retina: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 200, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "1.png")
    parts = read_bundle(retina, {"encoder_size": "tiny", "spatial_size": [64, 64]})
    assert parts.preprocessing({"image": str(tmp_path / "1.png")})["image"].shape == (3, 64, 64)
