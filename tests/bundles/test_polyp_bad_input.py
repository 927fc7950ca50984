# SPDX-License-Identifier: Apache-2.0
"""Mistakes get a few lines that say what to do, an exit code that is not 0, and cost nothing that was there."""

from __future__ import annotations

import hashlib
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from monai_sam2unet.networks import Hiera

IMAGES, MASKS = Path("TrainDataset") / "images", Path("TrainDataset") / "masks"
# Written before the bundle's own code runs, by MONAI.
UPSTREAM = ("parsing config_file", "NvImgCodec", "nvImageCodec")


def assert_explained(done: subprocess.CompletedProcess[str], *words: str) -> None:
    lines = [line for line in done.stderr.splitlines() if line and not line.startswith(UPSTREAM)]
    text = "\n".join(lines)
    assert done.returncode not in (0, None), text
    assert "Traceback" not in text
    assert any(line.startswith("error: ") for line in lines), text
    assert len(lines) <= 15, text
    for word in words:
        assert word in text


@pytest.fixture
def data(phantoms: Path, tmp_path: Path) -> Path:
    """A copy of the phantoms to spoil."""
    shutil.copytree(phantoms, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def train(run, tmp_path: Path):
    folders = {"ckpt_dir": tmp_path / "models", "log_dir": tmp_path / "runs"}

    def start(**overrides: object) -> subprocess.CompletedProcess[str]:
        return run("training", "train", check=False, **{**folders, **overrides})

    return start


def test_missing_folder(train, tmp_path: Path) -> None:
    assert_explained(train(dataset_dir=tmp_path / "nowhere"), "nowhere", "--dataset_dir")


def test_empty_folder(train, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert_explained(train(dataset_dir=tmp_path / "empty"), "images", "masks", "nothing")


def test_all_spoilt_files_are_named_at_once(train, data: Path) -> None:
    names = sorted(p.name for p in (data / IMAGES).iterdir())
    whole = (data / IMAGES / names[0]).read_bytes()
    (data / IMAGES / names[0]).write_bytes(whole[: len(whole) // 2])
    (data / MASKS / names[1]).write_text("not an image")
    Image.new("L", (20, 20)).save(data / MASKS / names[2])
    assert_explained(train(dataset_dir=data), "3 problems", *names[:3], "20x20")


def test_images_without_masks_are_named_at_once(train, data: Path) -> None:
    names = sorted(p.name for p in (data / MASKS).iterdir())
    for name in names[:2]:
        (data / MASKS / name).unlink()
    assert_explained(train(dataset_dir=data), "2 files", *names[:2])


def test_weights_of_another_size(train, data: Path, tmp_path: Path) -> None:
    torch.save(Hiera("small").state_dict(), tmp_path / "small.pt")
    assert_explained(train(dataset_dir=data, weights=tmp_path / "small.pt"), "'small'", "'tiny'", "nothing was loaded")


def test_missing_weights(train, data: Path, tmp_path: Path) -> None:
    assert_explained(train(dataset_dir=data, weights=tmp_path / "none.pt"), "none.pt")


def test_key_that_does_not_exist(train, data: Path) -> None:
    assert_explained(train(dataset_dir=data, learnign_rate=0.1), "learnign_rate", "--learning_rate")


@pytest.mark.parametrize("setting", [{"multi_scale": "[]"}, {"val_fraction": 2}, {"clip_norm": "none"}])
def test_values_out_of_range(train, data: Path, setting: dict[str, object]) -> None:
    assert_explained(train(dataset_dir=data, **setting), next(iter(setting)))


def test_folder_that_cannot_be_written_to(train, data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert_explained(train(dataset_dir=data, ckpt_dir=tmp_path / "file" / "models"), "--ckpt_dir")


def test_nothing_to_resume_from(train, data: Path) -> None:
    assert_explained(train(dataset_dir=data, resume="True"), "last.pt", "--resume")


def test_checkpoint_of_another_size(run, trained: Path, phantoms: Path, tmp_path: Path) -> None:
    done = run(
        "evaluating", "evaluate", check=False, dataset_dir=phantoms, ckpt_path=trained / "model.pt",
        output_dir=tmp_path, encoder_size="small",
    )  # fmt: skip
    assert_explained(done, "'tiny'", "'small'")


def test_full_disk_leaves_the_old_checkpoints(command, bundle: Path, trained: Path, phantoms: Path, tmp_path: Path):
    folder = tmp_path / "models"
    shutil.copytree(trained, folder)
    before = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.glob("*.pt")}
    words = command(
        "training", "train", dataset_dir=phantoms, ckpt_dir=folder, log_dir=tmp_path, resume="True", max_epochs=3
    )

    def no_large_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000_000, 20_000_000))

    done = subprocess.run(words, cwd=bundle, capture_output=True, text=True, preexec_fn=no_large_files, timeout=300)
    assert_explained(done, ".pt could not be written", "unchanged", "--resume")
    assert {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.glob("*.pt")} == before
    assert not list(folder.glob("*.part"))


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"freeze_encoder": "false"}, ("--freeze_encoder False",)),
        ({"max_cases": "null"}, ("--max_cases", "config file")),
        ({"weights": "None"}, ("--weights",)),
        ({"encoder_size": "huge"}, ("'huge'", "base_plus")),
        ({"precision": "fp8"}, ("fp8", "bf16")),
        ({"precision": "fp16"}, ("fp16", "inference")),
        ({"batch_size": 0}, ("batch_size",)),
        ({"learning_rate": 0}, ("learning rate",)),
        ({"network_def::dropuot": 0.1}, ("SAM2UNet", "dropuot")),
        ({"train::num_workers": 4}, ("train::num_workers",)),
        ({"light_checkpoints": "True"}, ("random",)),
    ],
)
def test_settings_that_cannot_be(train, phantoms: Path, setting: dict[str, object], words: tuple[str, ...]) -> None:
    assert_explained(train(dataset_dir=phantoms, **setting), *words)


def test_ctrl_c_says_how_to_go_on(command, bundle: Path, phantoms: Path, tmp_path: Path) -> None:
    words = command("training", "train", dataset_dir=phantoms, ckpt_dir=tmp_path, log_dir=tmp_path, max_epochs=500)
    process = subprocess.Popen(
        words,
        cwd=bundle,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # Tests may be run by a program that ignores Ctrl-C, which children inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        deadline = time.monotonic() + 240
        while not (tmp_path / "last.pt").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode != 0
    assert "--resume True" in stderr
    assert "Traceback" not in stderr
