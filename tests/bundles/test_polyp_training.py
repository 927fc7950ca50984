# SPDX-License-Identifier: Apache-2.0
"""Trainings that repeat, resume and run on several processes."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from monai_sam2unet.data import TrainingCases
from monai_sam2unet.networks import SAM2UNet

# All that draws random numbers is on.
PROBABILITIES = ("rotate_prob", "color_jitter_prob", "blur_prob", "jpeg_prob")
RANDOM = {**dict.fromkeys(PROBABILITIES, 0.5), "multi_scale": "[0.5,1]", "network_def::dropout": 0.1}


def weights(path: Path) -> dict[str, torch.Tensor]:
    state = torch.load(path, weights_only=True)
    return state.get("network", state)


def assert_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    different = [k for k in first if not torch.equal(first[k], second[k])]
    assert not different


def losses(folder: Path) -> list[float]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return [e.value for e in events.Scalars("train/loss")]


@pytest.fixture(scope="module")
def unbroken(run, phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    run("training", "train", dataset_dir=phantoms, ckpt_dir=folder, log_dir=folder / "runs", max_epochs=3, **RANDOM)
    return folder


def test_two_trainings_have_identical_losses(run, unbroken: Path, phantoms: Path, tmp_path: Path) -> None:
    settings = {"dataset_dir": phantoms, "ckpt_dir": tmp_path, "log_dir": tmp_path / "runs", "max_epochs": 3}
    run("training", "train", **settings, **RANDOM)
    first, second = losses(unbroken / "runs"), losses(tmp_path / "runs")
    assert len(first) == 9
    assert first == second
    assert_equal(weights(unbroken / "last.pt"), weights(tmp_path / "last.pt"))


def test_a_killed_training_resumes_to_the_same_weights(
    command, run, bundle: Path, unbroken: Path, phantoms: Path, tmp_path: Path
) -> None:
    settings = {"dataset_dir": phantoms, "ckpt_dir": tmp_path, "log_dir": tmp_path / "runs", "max_epochs": 3, **RANDOM}
    process = subprocess.Popen(
        command("training", "train", **settings), cwd=bundle, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 240
    while not (tmp_path / "last.pt").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert torch.load(tmp_path / "last.pt", weights_only=True)["epoch"] < 3

    run("training", "train", resume="True", **settings)
    assert_equal(weights(unbroken / "last.pt"), weights(tmp_path / "last.pt"))
    assert_equal(weights(unbroken / "model.pt"), weights(tmp_path / "model.pt"))


def test_the_frozen_encoder_stays_bit_identical(run, phantoms: Path, tmp_path: Path) -> None:
    start = SAM2UNet(size="tiny")
    torch.save(start.state_dict(), tmp_path / "start.pt")
    settings = {"dataset_dir": phantoms, "ckpt_dir": tmp_path, "log_dir": tmp_path / "runs"}
    run("training", "train", weights=tmp_path / "start.pt", max_epochs=1, **settings)
    before, after = start.state_dict(), weights(tmp_path / "last.pt")
    for name, parameter in start.named_parameters():
        unchanged = torch.equal(before[name], after[name])
        assert unchanged == (name.startswith("encoder.") and not parameter.requires_grad), name


def test_several_processes_train_together(bundle: Path, command, phantoms: Path, tmp_path: Path) -> None:
    files = "['configs/train.yaml','configs/multi_gpu_train.yaml']"
    settings = {
        "dataset_dir": phantoms,
        "ckpt_dir": tmp_path,
        "log_dir": tmp_path / "runs",
        "val_fraction": 0.25,
        "device": "cpu",
    }
    words = command("training", files, **settings)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*launcher, *words[1:]], cwd=bundle, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    assert state["epoch"] == 2
    assert not any(k.startswith("module.") for k in state["network"])
    # 9 images in batches of 4 on 2 processes: 2 steps an epoch, where one process makes 3.
    assert len(losses(tmp_path / "runs")) == 4
    assert "training: epoch 2/2" in done.stderr
    assert done.stderr.count("training: epoch 2/2") == 1
    cases = TrainingCases.of_checkpoint(tmp_path / "model.pt")
    assert cases is not None
    assert (len(cases.training), len(cases.validation)) == (9, 3)
    assert cases.settings == {"spatial_size": [64, 64], "sliding_window": False}


def test_a_fold_is_not_mixed_up_with_another(run, phantoms: Path, tmp_path: Path) -> None:
    settings = {"dataset_dir": phantoms, "ckpt_dir": tmp_path, "log_dir": tmp_path / "runs", "fold": 0}
    run("training", "train", **settings, max_epochs=1)
    done = run("training", "train", check=False, resume="True", **{**settings, "fold": 1})
    assert done.returncode == 1
    assert "fold: 0 of 5 then, 1 of 5 now" in done.stderr
    assert "Traceback" not in done.stderr
    measured = {"dataset_dir": phantoms, "ckpt_path": tmp_path / "model.pt", "output_dir": tmp_path / "eval"}
    done = run("evaluating", "evaluate", check=False, fold=1, **measured)
    assert done.returncode == 1
    assert "TrainDataset/images/" in done.stderr
    assert "it left out fold 0" in done.stderr
    assert "Traceback" not in done.stderr
    run("evaluating", "evaluate", fold=0, report="False", **measured)


def test_multi_gpu_config_says_how_to_start_it(run, phantoms: Path, tmp_path: Path) -> None:
    files = "['configs/train.yaml','configs/multi_gpu_train.yaml']"
    done = run("training", files, check=False, dataset_dir=phantoms, ckpt_dir=tmp_path, log_dir=tmp_path / "runs")
    assert done.returncode == 1
    assert "torchrun" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("recipe", ["paper", "augmented"])
def test_recipes_set_keys_of_the_config(repository: Path, bundle: Path, recipe: str) -> None:
    from monai.bundle import ConfigParser

    overlay = ConfigParser.load_config_file(repository / "configs" / "recipes" / f"{recipe}.yaml")
    config = ConfigParser.load_config_file(bundle / "configs" / "train.yaml")
    assert set(overlay) <= set(config)


def test_an_average_of_the_weights_is_validated_and_kept(run, phantoms: Path, tmp_path: Path) -> None:
    settings = {"dataset_dir": phantoms, "ckpt_dir": tmp_path, "log_dir": tmp_path / "runs", "max_epochs": 1}
    run("training", "train", ema_decay=0.9, **settings, **RANDOM)
    last = torch.load(tmp_path / "last.pt", weights_only=True)
    assert last["averaged_steps"] == 3
    assert_equal(weights(tmp_path / "model.pt"), last["average"])
    assert not torch.equal(last["average"]["head.weight"], last["network"]["head.weight"])


def test_augmented_recipe_trains(run, repository: Path, phantoms: Path, tmp_path: Path) -> None:
    recipe = repository / "configs" / "recipes" / "augmented.yaml"
    files = f"['configs/train.yaml','{recipe}']"
    run("training", files, dataset_dir=phantoms, ckpt_dir=tmp_path, log_dir=tmp_path / "runs", max_epochs=1)
    assert (tmp_path / "model.pt").exists()


def test_metrics_of_the_documentation_are_measured_for_each_image(
    run, repository: Path, phantoms: Path, tmp_path: Path
) -> None:
    page = (repository / "docs" / "metrics.md").read_text(encoding="utf-8")
    overlay = tmp_path / "my_metrics.yaml"
    overlay.write_text(re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)[0], encoding="utf-8")
    folders = {"ckpt_dir": tmp_path, "log_dir": tmp_path / "runs", "validate::handlers::0::save_dir": tmp_path / "val"}
    run("training", f"['configs/train.yaml','{overlay}']", dataset_dir=phantoms, max_epochs=1, **folders)
    with (tmp_path / "val" / "val_hd95_raw.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows
    assert all(Path(row["filename"]).is_file() for row in rows)
    means = dict(line.split(",") for line in (tmp_path / "val" / "metrics.csv").read_text().splitlines())
    assert float(means["val_hd95"]) == pytest.approx(sum(float(row["mean"]) for row in rows) / len(rows), abs=1e-3)
    assert {"val_mean_iou", "val_s_measure", "val_weighted_f"} <= means.keys()
