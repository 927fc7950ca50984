# SPDX-License-Identifier: Apache-2.0
"""Bundles run with the mean of several networks: predictions, scores, and checkpoints that do not belong together."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from monai_sam2unet.bundle import training_datalist
from monai_sam2unet.bundle.ensemble import ENSEMBLE_OVERLAY, load_ensemble
from monai_sam2unet.data import TrainingCases
from monai_sam2unet.errors import ConfigError, WeightsError
from monai_sam2unet.inferers import SliceWiseInferer
from monai_sam2unet.networks import SAM2UNet
from monai_sam2unet.transforms import Preset

from ..warm_python import WarmPython

CARDIAC = "cardiac_mr_segmentation"
SETTINGS = ("--encoder_size", "tiny", "--spatial_size", "[64,64]", "--num_workers", "0")


def untrained(folder: Path, out_channels: int, count: int = 2, like: torch.Tensor | None = None) -> list[Path]:
    """Checkpoints of random networks; their logits of an image lie on both sides of 0."""
    paths = []
    for seed in range(count):
        torch.manual_seed(seed)
        network = SAM2UNet(size="tiny", out_channels=out_channels).eval()
        with torch.inference_mode():
            logits = network(torch.rand(1, 3, 64, 64) if like is None else like)
        network.head.weight.data *= 2 / logits.std()
        network.head.bias.data = 2 * (network.head.bias.data - logits.mean((0, 2, 3))) / logits.std()
        paths.append(folder / f"fold{seed}.pt")
        torch.save(network.state_dict(), paths[-1])
    return paths


def networks(paths: list[Path], out_channels: int) -> list[SAM2UNet]:
    made = []
    for path in paths:
        made.append(SAM2UNet(size="tiny", out_channels=out_channels).eval())
        made[-1].load_state_dict(torch.load(path, weights_only=True))
    return made


@pytest.fixture
def ensemble(python_m: WarmPython) -> Callable[..., subprocess.CompletedProcess[str]]:
    return lambda *words: python_m(["monai_sam2unet", "ensemble", *words, *SETTINGS])


def pixels(folder: Path) -> dict[str, np.ndarray]:
    return {path.stem: np.asarray(Image.open(path)) for path in sorted((folder / "masks").iterdir())}


@pytest.mark.slow
def test_masks_of_pictures_are_those_of_the_mean_probability(
    ensemble, bundle: Path, phantoms: Path, tmp_path: Path
) -> None:
    images = phantoms / "TestDataset" / "Phantom" / "images"
    preset = Preset("endoscopy", spatial_size=(64, 64))
    items = [preset.inference()({"image": str(path)}) for path in sorted(images.iterdir())]
    paths = untrained(tmp_path, 1, 3, items[0]["image"][None].as_tensor())
    done = ensemble(bundle, *paths, "--input", images, "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    members, found = networks(paths, 1), pixels(tmp_path / "out")
    assert len(found) == len(items)
    shares, differ = [], 0
    for item, mask in zip(items, found.values(), strict=True):
        image = item["image"][None].as_tensor()
        with torch.inference_mode():
            own = torch.stack([network(image).sigmoid() for network in members])

        def mask_of(probability: torch.Tensor, item=item) -> np.ndarray:
            done = preset.postprocessing(threshold=0.5)({**item, "pred": torch.logit(probability)[0]})
            return done["pred"][0].numpy() > 0

        expected = mask_of(own.mean(0))
        assert ((mask > 0) == expected).mean() > 0.999
        shares.append(expected.mean())
        differ += int((expected != mask_of(own[0])).mean() > 0.05)
    assert max(shares) > 0.05
    assert differ > 0  # the first network alone would not do


@pytest.mark.slow
def test_one_checkpoint_gives_what_inference_gives(ensemble, run, bundle: Path, phantoms: Path, tmp_path: Path) -> None:
    (path,) = untrained(tmp_path, 1, 1)
    images = phantoms / "TestDataset" / "Phantom" / "images"
    run("inferring", "inference", dataset_dir=images, ckpt_path=path, output_dir=tmp_path / "alone")
    done = ensemble(bundle, path, "--input", images, "--output", tmp_path / "mean")
    assert done.returncode == 0, done.stderr
    alone, mean = pixels(tmp_path / "alone"), pixels(tmp_path / "mean")
    assert alone.keys() == mean.keys()
    assert all(np.array_equal(alone[name], mean[name]) for name in alone)


@pytest.mark.slow
def test_evaluation_of_pictures(run, phantoms: Path, tmp_path: Path) -> None:
    paths = [str(path) for path in untrained(tmp_path, 1)]
    configs = f"['configs/evaluate.yaml','{ENSEMBLE_OVERLAY}']"
    run("evaluating", configs, dataset_dir=phantoms, ckpt_paths=paths, output_dir=tmp_path / "eval")
    with (tmp_path / "eval" / "metrics.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 4
    summary = json.loads((tmp_path / "eval" / "summary.json").read_text())
    assert summary["settings"]["checkpoint"] == paths
    assert (tmp_path / "eval" / "report.html").is_file()


@pytest.mark.slow
def test_what_one_of_the_networks_knows_is_not_measured(ensemble, bundle: Path, phantoms: Path, tmp_path: Path) -> None:
    paths = untrained(tmp_path, 1)
    for fold, path in enumerate(paths):
        cases = TrainingCases.from_items(**training_datalist(phantoms, fold=fold), dataset_dir=phantoms)
        TrainingCases.path_of(path).write_text(cases.as_json())
    words = ("--input", phantoms, "--output", tmp_path / "eval", "--evaluate", "--report", "False")
    done = ensemble(bundle, *paths, *words, "--fold", "0")
    assert done.returncode == 1
    assert "are known to the networks from training" in done.stderr
    assert f"trained on by {paths[1]}" in done.stderr
    assert "Traceback" not in done.stderr
    done = ensemble(bundle, paths[0], *words, "--fold", "0")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_label_maps_of_volumes_and_their_evaluation(ensemble, repository, heart_volumes: Path, tmp_path: Path) -> None:
    paths = untrained(tmp_path, 4)
    folder = repository / "bundles" / CARDIAC
    name = "patient001_frame01.nii.gz"
    for kind in ("images", "labels"):
        (tmp_path / "in" / kind).mkdir(parents=True)
        shutil.copy(heart_volumes / kind / name, tmp_path / "in" / kind)
    done = ensemble(folder, *paths, "--input", tmp_path / "in" / "images", "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    preset = Preset("mr", spatial_size=(64, 64), plane=2)
    image = preset.inference()({"image": str(heart_volumes / "images" / name)})["image"]
    inferer = SliceWiseInferer.from_preset(preset, activation="softmax", precision="fp32")
    with torch.inference_mode():
        mean = torch.stack([inferer(image[None], network)[0] for network in networks(paths, 4)]).mean(0)
    expected = mean.argmax(0).numpy()
    written = np.asarray(nib.load(tmp_path / "out" / name).dataobj)
    assert len(np.unique(expected)) > 1
    assert (written == expected).mean() > 0.999
    words = ("--input", tmp_path / "in", "--output", tmp_path / "eval", "--evaluate", "--report", "False")
    done = ensemble(folder, *paths, *words)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "eval" / "metrics.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    truth = np.asarray(nib.load(heart_volumes / "labels" / name).dataobj)
    dice = 2 * ((written == 3) & (truth == 3)).sum() / ((written == 3).sum() + (truth == 3).sum())
    assert float(row["dice_LV"]) == pytest.approx(dice, abs=1e-6)


def test_a_checkpoint_of_another_network_is_named(tmp_path: Path) -> None:
    (path,) = untrained(tmp_path, 1, 1)
    for name, options in (("channels", {"out_channels": 2}), ("adapters", {"adapter_channels": 8})):
        torch.save(SAM2UNet(size="tiny", **options).state_dict(), tmp_path / f"{name}.pt")
        with pytest.raises(WeightsError, match=rf"{name}\.pt does not fit the network; nothing was loaded"):
            load_ensemble(SAM2UNet(size="tiny"), [path, tmp_path / f"{name}.pt"])


@pytest.mark.slow
def test_the_command_names_it_too(ensemble, bundle: Path, phantoms: Path, tmp_path: Path) -> None:
    paths = untrained(tmp_path, 1)
    torch.save(SAM2UNet(size="tiny", adapter_channels=8).state_dict(), paths[1])
    done = ensemble(bundle, *paths, "--input", phantoms / "TestDataset", "--output", tmp_path / "out")
    assert done.returncode == 1
    assert "fold1.pt does not fit the network; nothing was loaded" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "masks").exists()


def test_checkpoints_that_are_no_ensemble(tmp_path: Path) -> None:
    (path,) = untrained(tmp_path, 1, 1)
    with pytest.raises(ConfigError, match=r"named twice[^/]*\n.*fold0\.pt"):
        load_ensemble(SAM2UNet(size="tiny"), [path, path.parent / "." / path.name])
    with pytest.raises(ConfigError, match="No checkpoint is named"):
        load_ensemble(SAM2UNet(size="tiny"), [])
