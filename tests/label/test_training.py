# SPDX-License-Identifier: Apache-2.0
"""Training from a viewer: labels are submitted, trainings started, watched, ended and resumed as viewers do it."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import requests
import torch
from PIL import Image

from monai_sam2unet.bundle import BundlePredictor
from monai_sam2unet.data import make_polyp_phantom

pytestmark = [pytest.mark.label, pytest.mark.slow]
Serve = Callable[..., AbstractContextManager[str]]
Infer = Callable[..., requests.Response]
CARDIAC, POLYP = "cardiac_mr_segmentation", "polyp_segmentation"
HEARTS = ("patient001_frame01", "patient001_frame02", "patient002_frame01")
FRAMES = ("frame1", "frame2", "frame3")
#: So that a training takes seconds.
SHORT = {"max_epochs": 2, "learning_rate": 0.01, "num_workers": 0, "train_batch_size": 4}
#: What was learnt is lost by it.
ABSURD = {**SHORT, "learning_rate": 0.1, "end_learning_rate": 0.1}


@pytest.fixture(scope="module")
def bundles(small_bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles that may be trained."""
    folder = tmp_path_factory.mktemp("trained") / "bundles"
    shutil.copytree(small_bundles, folder)
    return folder


@pytest.fixture(scope="module")
def images(heart_volumes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for name in HEARTS:
        shutil.copy(heart_volumes / "images" / f"{name}.nii.gz", folder)
    for number, name in enumerate(FRAMES):
        Image.fromarray(make_polyp_phantom(number, 72, 104)[0]).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def server(serve: Serve, bundles: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    app = tmp_path_factory.mktemp("app")
    with serve("monai_sam2unet", "label", "--studies", images, "--bundles", bundles, "--app", app) as url:
        yield url


def submit(server: str, image: str, file: Path, **params: Any) -> None:
    """Send a label, as viewers do."""
    with file.open("rb") as opened:
        saved = requests.put(
            f"{server}/datastore/label", params={"image": image, "tag": "final"}, timeout=60,
            data={"params": json.dumps(params)}, files={"label": (file.name, opened)},
        )  # fmt: skip
    assert saved.status_code == 200, saved.text


@pytest.fixture(scope="module")
def hearts(server: str, heart_volumes: Path) -> str:
    """The server with labels of hearts, with the names that 3D Slicer sends: those of all models."""
    names = [{"name": name, "idx": number} for number, name in enumerate(("RV", "MYO", "LV", "polyp"), 1)]
    for name in HEARTS:
        submit(server, name, heart_volumes / "labels" / f"{name}.nii.gz", label_info=names)
    return server


@pytest.fixture(scope="module")
def frames(server: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The server with masks of polyps, 0 and 1, as ``/info/`` names them."""
    folder = tmp_path_factory.mktemp("masks")
    for number, name in enumerate(FRAMES):
        Image.fromarray(make_polyp_phantom(number, 72, 104)[1] // 255).save(folder / f"{name}.png")
        submit(server, name, folder / f"{name}.png")
    return server


def train(server: str, model: str, sync: bool = True, **params: Any) -> requests.Response:
    asked = {"run_sync": sync}
    return requests.post(f"{server}/train/{model}", params=asked, json={"client_id": "test", **params}, timeout=300)


def until(found: Callable[[], Any], seconds: float = 200) -> Any:
    """What is found at last."""
    for _ in range(int(4 * seconds)):
        if result := found():
            return result
        time.sleep(0.25)
    raise AssertionError("this did not happen in time")


def masks(infer: Infer, server: str, folder: Path) -> np.ndarray:
    (folder / "mask.nii.gz").write_bytes(infer(server, CARDIAC, HEARTS[0]).content)
    return np.asarray(nib.load(folder / "mask.nii.gz").dataobj)


def test_viewers_are_offered_what_they_know(server: str) -> None:
    trainers = requests.get(f"{server}/info/", timeout=60).json()["trainers"]
    assert trainers.keys() == {CARDIAC, POLYP}
    assert trainers[CARDIAC]["labels"] == ["RV", "MYO", "LV"]
    config = trainers[CARDIAC]["config"]
    assert config.pop("device")
    assert config == {
        **{"name": "train_01", "val_split": 0.2, "resume": False},
        **{"max_epochs": 20, "learning_rate": 0.001, "train_batch_size": 12},
    }


@pytest.mark.parametrize("sync", [True, False])
def test_too_few_labels_are_told_before_anything_is_started(server: str, sync: bool) -> None:
    refused = train(server, POLYP, sync)
    assert refused.status_code == 400
    assert refused.json()["detail"].startswith("0 submitted labels of pictures are too few to train polyp_segmentation")
    assert requests.get(f"{server}/train/", timeout=60).status_code == 404


def test_mistakes_are_told_all_at_once(hearts: str) -> None:
    given = {
        "max_epoch": 5,
        "learning_rate": "$print(1)",
        "encoder_size": "large",
        "tracking": "mlflow",
        "name": "../a",
    }
    refused = train(hearts, CARDIAC, sync=False, **given, val_split=0, train_batch_size=0, device="tpu9")
    assert refused.status_code == 400
    told = refused.json()["detail"]
    for part in (
        "no parameter 'max_epoch'. Did you mean max_epochs?",
        "learning_rate must be a number, as 0.001; got '$print(1)'",
        "encoder_size is not set by a request",
        "tracking 'mlflow' is not done here",
        "name must be a word of letters, digits, '_' and '-', got '../a'",
        "val_split must lie between 0 and 1, got 0",
        "batch_size must be at least 1, got 0",
        "device must be cpu, cuda, cuda:NUMBER or a GPU's name, got 'tpu9'",
    ):
        assert part in told
    refused = train(hearts, CARDIAC, resume=True)
    assert (refused.status_code, "no training 'train_01'" in refused.json()["detail"]) == (400, True)
    refused = train(hearts, "liver")
    assert (refused.status_code, "no model 'liver' to train" in refused.json()["detail"]) == (404, True)


def test_better_weights_are_published_and_run(
    hearts: str, infer: Infer, bundles: Path, images: Path, tmp_path: Path
) -> None:
    before = masks(infer, hearts, tmp_path)
    answer = train(hearts, CARDIAC, **SHORT, device="cpu")
    assert answer.status_code == 200, answer.text
    result = answer.json()
    assert result["published"] is True
    assert result["dice_after"] == result["best_metric"] > result["dice_before"]
    assert (result["epoch"], result["total_epochs"]) == (2, 2)
    sides = json.loads((bundles / CARDIAC / "models" / "train_01" / "cases.json").read_text())
    patients = {side: {name[:10] for name in names} for side, names in sides.items()}
    assert sorted(map(len, patients.values())) == [1, 1]
    assert patients["training"] != patients["validation"]
    # The checkpoints of the training hold no frozen encoder; that in use is whole, as it was.
    sizes = {name: (bundles / CARDIAC / "models" / name).stat().st_size for name in ("train_01/model.pt", "model.pt")}
    assert sizes["train_01/model.pt"] < sizes["model.pt"] / 5
    after = masks(infer, hearts, tmp_path)
    assert (after != before).any()
    predictor = BundlePredictor(bundles / CARDIAC, {"device": "cpu"})
    case = predictor.load(str(images / f"{HEARTS[0]}.nii.gz"))
    own = predictor.mask(case, predictor.predict([case])[0])
    np.testing.assert_array_equal(after, own[0].numpy())


def test_a_training_is_watched_ended_resumed_and_not_published_when_worse(
    hearts: str, infer: Infer, bundles: Path, tmp_path: Path
) -> None:
    models = bundles / CARDIAC / "models"
    weights, before = (models / "model.pt").read_bytes(), masks(infer, hearts, tmp_path)
    task = train(hearts, CARDIAC, sync=False, **ABSURD | {"name": "worse", "max_epochs": 900}).json()
    assert task["status"] in ("SUBMITTED", "RUNNING")
    for sync in (True, False):
        refused = train(hearts, POLYP, sync)
        assert refused.status_code == 429
        assert (
            f"A training of {CARDIAC}, since {task['start_ts']}, is under way. Wait until" in refused.json()["detail"]
        )

    def status() -> dict[str, Any]:
        return requests.get(f"{hearts}/train/", timeout=60).json()

    until(lambda: status()["status"] == "ERROR" or any("training: epoch" in one for one in status().get("details", [])))
    assert status()["status"] == "RUNNING", status()
    stats = requests.get(f"{hearts}/info/", timeout=60).json()["train_stats"]
    assert next(iter(stats)) == CARDIAC
    assert stats[CARDIAC]["name"] == "worse"
    assert stats[CARDIAC]["total_epochs"] == 900
    until((models / "worse" / "last.pt").is_file)
    assert requests.delete(f"{hearts}/train/", timeout=60).json()["status"] == "STOPPED"
    assert status()["status"] == "STOPPED"

    done = torch.load(models / "worse" / "last.pt", weights_only=True)["epoch"]
    answer = train(hearts, CARDIAC, **ABSURD | {"name": "worse", "resume": True, "max_epochs": done + 1})
    assert answer.status_code == 200, answer.text
    result = answer.json()
    assert result["current_iteration"] == (done + 1) * result["total_iterations"]
    assert any(f"last.pt after epoch {done}." in line for line in status()["details"])
    assert (result["epoch"], result["published"]) == (done + 1, False)
    assert result["dice_after"] < result["dice_before"] == result["best_metric"]
    assert result["result"].startswith("Not published, for it is worse")
    assert (models / "model.pt").read_bytes() == weights
    np.testing.assert_array_equal(masks(infer, hearts, tmp_path), before)


def test_pictures_are_trained_on_with_masks_of_zero_and_one(hearts: str, frames: str, bundles: Path) -> None:
    answer = train(frames, POLYP, **SHORT | {"max_epochs": 1})
    assert answer.status_code == 200, answer.text
    result = answer.json()
    assert (result["num_training"] + result["num_validation"], result["published"]) == (
        len(FRAMES),
        result["dice_after"] >= result["dice_before"],
    )
    for number, name in enumerate(FRAMES):
        read = np.asarray(Image.open(bundles / POLYP / "models" / "train_01" / "labels" / f"{name}.png"))
        np.testing.assert_array_equal(read, make_polyp_phantom(number, 72, 104)[1])


def test_labels_of_other_classes_are_told_before_anything_is_started(hearts: str, tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.full((24, 20, 6), 2, np.uint8), np.eye(4)), tmp_path / "label.nii.gz")
    submit(hearts, HEARTS[2], tmp_path / "label.nii.gz", label_info=[{"name": "tumour", "idx": 2}])
    for sync in (True, False):
        answer = train(hearts, CARDIAC, sync)
        assert answer.status_code == 400
        told = answer.json()["detail"]
        assert "The classes are RV (1), MYO (2), LV (3)" in told
        assert f"{HEARTS[2]}: it shows tumour (2), which is no class of this bundle" in told
