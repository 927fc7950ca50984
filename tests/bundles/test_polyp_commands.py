# SPDX-License-Identifier: Apache-2.0
"""The polyp bundle's three commands, on phantoms and on real images."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from monai_sam2unet.networks import Hiera, SAM2UNet, light_state_dict

from ..warm_python import WarmPython

PHANTOM_TEST = Path("TestDataset") / "Phantom"


def read_mask(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("L")) > 127


def test_training_writes_weights_that_stock_torch_loads(trained: Path) -> None:
    state = torch.load(trained / "model.pt", weights_only=True)
    network = SAM2UNet(size="tiny")
    network.load_state_dict(state, strict=True)
    assert any(torch.count_nonzero(v) for k, v in state.items() if k.endswith("prompt_learn.2.weight"))


def test_training_leaves_events_for_tensorboard(trained: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(trained / "runs"))
    events.Reload()
    assert {"train/loss", "train/learning_rate", "validation/val_mean_dice"} <= set(events.Tags()["scalars"])
    assert "validation/0" in events.Tags()["images"]
    assert [e.step for e in events.Scalars("validation/val_mean_dice")] == [1, 2]


def test_evaluation_agrees_with_the_masks_of_inference(run, trained: Path, phantoms: Path, tmp_path: Path) -> None:
    checkpoint = trained / "model.pt"
    run("evaluating", "evaluate", dataset_dir=phantoms, ckpt_path=checkpoint, output_dir=tmp_path / "eval")
    images = phantoms / PHANTOM_TEST / "images"
    run("inferring", "inference", dataset_dir=images, ckpt_path=checkpoint, output_dir=tmp_path / "out", batch_size=1)

    settings = json.loads((tmp_path / "eval" / "summary.json").read_text())["settings"]
    assert settings["mask_threshold"] == 127.5
    assert all(settings[name] is None for name in ("test_sets", "test_folders", "split_file"))
    with (tmp_path / "eval" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [Path(r["image"]).name for r in rows] == sorted(p.name for p in images.iterdir())
    for row in rows:
        stem = Path(row["image"]).stem
        truth = read_mask(phantoms / PHANTOM_TEST / "masks" / f"{stem}.png")
        prediction = read_mask(tmp_path / "out" / "masks" / f"{stem}.png")
        assert prediction.shape == truth.shape == (int(row["height"]), int(row["width"]))
        common = (prediction & truth).sum()
        assert float(row["dice"]) == pytest.approx(2 * common / (prediction.sum() + truth.sum()), abs=1e-6)
        assert float(row["iou"]) == pytest.approx(common / (prediction | truth).sum(), abs=1e-6)
        assert Image.open(tmp_path / "out" / "overlays" / f"{stem}.png").size == truth.shape[::-1]
    summary = json.loads((tmp_path / "eval" / "summary.json").read_text())["sets"]["Phantom"]
    assert summary["images"] == 4
    assert 0 < summary["mean_s_measure"] < 1
    page = (tmp_path / "eval" / "report.html").read_text(encoding="utf-8")
    assert "Papers' protocol" in page.replace("&#39;", "'")
    assert summary["mean_dice"] == pytest.approx(np.mean([float(r["dice"]) for r in rows]))


def test_predictions_are_not_mirrored_or_turned(run, phantoms: Path, tmp_path: Path) -> None:
    """A network that passes a bright corner through shows where each pixel ends up."""
    torch.manual_seed(0)
    network = SAM2UNet(size="tiny")
    checkpoint = tmp_path / "model.pt"
    torch.save(network.state_dict(), checkpoint)
    folder = tmp_path / "images"
    folder.mkdir()
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 255, (90, 130, 3), dtype=np.uint8)
    for name, image in {"plain": pixels, "flipped": pixels[:, ::-1]}.items():
        Image.fromarray(np.ascontiguousarray(image)).save(folder / f"{name}.png")
    size = "[90,130]"
    run("inferring", "inference", dataset_dir=folder, ckpt_path=checkpoint, output_dir=tmp_path, spatial_size=size)

    image = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    with torch.no_grad():
        logits = network.eval()(((image - mean[:, None, None]) / std[:, None, None])[None])[0, 0]
    sure = logits.abs() > 1e-3
    predicted = torch.from_numpy(read_mask(tmp_path / "masks" / "plain.png"))
    assert predicted.shape == (90, 130)
    assert torch.equal(predicted[sure], (logits > 0)[sure])


def test_inference_does_what_it_can_and_names_the_rest(run, trained: Path, phantoms: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "deeper").mkdir(parents=True)
    source = sorted((phantoms / PHANTOM_TEST / "images").iterdir())[0]
    Image.open(source).save(folder / "a.jpg")
    Image.open(source).save(folder / "deeper" / "a.png")
    (folder / "broken.png").write_bytes(source.read_bytes()[:200])
    done = run(
        "inferring", "inference", check=False, dataset_dir=folder, ckpt_path=trained / "model.pt", output_dir=tmp_path
    )
    assert done.returncode == 1
    assert "broken.png" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(p.relative_to(tmp_path / "masks").as_posix() for p in (tmp_path / "masks").rglob("*.png")) == [
        "a.png",
        "deeper/a.png",
    ]


@pytest.mark.parametrize(("config", "run_id"), [("evaluate", "run"), ("inference", "run")])
def test_run_is_the_stock_name_of_each_run(run, trained: Path, phantoms: Path, tmp_path: Path, config, run_id) -> None:
    dataset = phantoms if config == "evaluate" else phantoms / PHANTOM_TEST / "images"
    run(run_id, config, dataset_dir=dataset, ckpt_path=trained / "model.pt", output_dir=tmp_path)
    assert any(tmp_path.iterdir())


def test_light_checkpoints(run, phantoms: Path, tmp_path: Path) -> None:
    weights = tmp_path / "encoder.pt"
    torch.save(SAM2UNet(size="tiny").encoder.state_dict(), weights)
    folder = tmp_path / "models"
    settings = {"dataset_dir": phantoms, "ckpt_dir": folder, "log_dir": tmp_path, "light_checkpoints": "True"}
    plain = {k: v for k, v in torch.load(weights, weights_only=True).items() if "prompt_learn" not in k}
    torch.save({k.replace(".block.", "."): v for k, v in plain.items()}, weights)
    run("training", "train", weights=weights, max_epochs=1, **settings)
    run("training", "train", weights=weights, max_epochs=2, resume="True", **settings)
    assert (folder / "model.pt").stat().st_size < 12e6

    evaluation = {"dataset_dir": phantoms, "ckpt_path": folder / "model.pt", "output_dir": tmp_path / "eval"}
    run("evaluating", "evaluate", weights=weights, **evaluation)
    done = run("evaluating", "evaluate", check=False, **evaluation)
    assert done.returncode == 1
    assert "other frozen encoder weights" in done.stderr


@pytest.mark.slow
def test_light_checkpoint_of_the_large_network_is_small(tmp_path: Path) -> None:
    network = SAM2UNet(size="large")
    torch.save(light_state_dict(network, sha256="0" * 64), tmp_path / "light.pt")
    assert (tmp_path / "light.pt").stat().st_size < 25e6


@pytest.mark.slow
def test_the_commands_on_real_images(run, shared_data: Path, tiny_weights: Path, tmp_path: Path) -> None:
    data = shared_data / "polyp"
    settings = {"weights": tiny_weights, "max_cases": 12, "max_epochs": 2, "warmup_epochs": 0}
    run("training", "train", dataset_dir=data, ckpt_dir=tmp_path, log_dir=tmp_path / "runs", **settings)
    checkpoint = tmp_path / "model.pt"
    images = data / "TestDataset" / "CVC-300" / "images"
    for path in sorted(images.parent.rglob("*.png"))[::10]:
        few = tmp_path / "few" / "TestDataset" / path.relative_to(data / "TestDataset")
        few.parent.mkdir(parents=True, exist_ok=True)
        few.symlink_to(path)
    run("evaluating", "evaluate", dataset_dir=tmp_path / "few", ckpt_path=checkpoint, output_dir=tmp_path)
    sets = json.loads((tmp_path / "summary.json").read_text())["sets"]
    assert {name: values["images"] for name, values in sets.items()} == {"CVC-300": 6}
    run("inferring", "inference", dataset_dir=images / "149.png", ckpt_path=checkpoint, output_dir=tmp_path)
    assert Image.open(tmp_path / "masks" / "149.png").size == Image.open(images / "149.png").size


def test_an_encoder_alone_is_not_evaluated(run, phantoms: Path, tmp_path: Path) -> None:
    torch.save(Hiera("tiny").state_dict(), tmp_path / "encoder.pt")
    settings = {"dataset_dir": phantoms, "output_dir": tmp_path / "eval"}
    done = run("evaluating", "evaluate", check=False, ckpt_path=tmp_path / "encoder.pt", **settings)
    assert done.returncode == 1
    assert "holds an encoder only" in done.stderr
    done = run("evaluating", "evaluate", check=False, ckpt_path="models/none.pt", **settings)
    assert "Train first" in done.stderr


def test_overlays_can_be_left_out(run, trained: Path, phantoms: Path, tmp_path: Path) -> None:
    images = phantoms / PHANTOM_TEST / "images"
    run(
        "inferring", "inference", dataset_dir=images, ckpt_path=trained / "model.pt", output_dir=tmp_path,
        overlays="False",
    )  # fmt: skip
    assert [p.name for p in tmp_path.iterdir()] == ["masks"]


@pytest.mark.slow
def test_the_demo_trains_the_whole_network_and_draws_a_picture(python_m: WarmPython, tmp_path: Path) -> None:
    done = python_m(["monai_sam2unet", "demo", "--output", tmp_path, "--images", 10, "--epochs", 1])
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "Phantom" in done.stdout
    assert Image.open(tmp_path / "predictions.png").width > 500
    state = torch.load(tmp_path / "models" / "last.pt", weights_only=True)
    assert len(state["optimizer"]["state"]) == len(list(SAM2UNet(size="tiny", deep_supervision=True).parameters()))
