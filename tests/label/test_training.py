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

from monai_sam2unet.bundle import BundleConfig, BundlePredictor, load_checkpoint

pytestmark = [pytest.mark.label, pytest.mark.slow]
Serve = Callable[..., AbstractContextManager[str]]
Infer = Callable[..., requests.Response]
Save = Callable[..., requests.Response]
Read = Callable[[requests.Response], np.ndarray]
CARDIAC, POLYP = "cardiac_mr_segmentation", "polyp_segmentation"
HEARTS = ("patient001_frame01", "patient001_frame02", "patient002_frame01")
#: So that a training takes seconds.
SHORT = {"max_epochs": 2, "learning_rate": 0.01, "num_workers": 0, "train_batch_size": 4}


@pytest.fixture(scope="module")
def bundles(small_bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles that may be trained."""
    folder = tmp_path_factory.mktemp("trained") / "bundles"
    shutil.copytree(small_bundles, folder)
    measure_statistics(folder / CARDIAC)
    return folder


def measure_statistics(bundle: Path) -> None:
    """Give random weights the statistics of BatchNorm that trained ones have, which trainings from a viewer keep."""
    network = BundleConfig(bundle).build("network_def")
    path = bundle / "models" / "model.pt"
    network.load_state_dict(torch.load(path, weights_only=True))
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None
    torch.manual_seed(0)
    with torch.no_grad():
        network.train()(torch.randn(8, 3, 64, 64))
    torch.save(network.state_dict(), path)


@pytest.fixture(scope="module")
def images(heart_volumes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for name in HEARTS:
        shutil.copy(heart_volumes / "images" / f"{name}.nii.gz", folder)
    return folder


@pytest.fixture(scope="module")
def server(serve: Serve, bundles: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    app = tmp_path_factory.mktemp("app")
    with serve("monai_sam2unet", "label", "--studies", images, "--bundles", bundles, "--app", app) as url:
        yield url


@pytest.fixture(scope="module")
def hearts(server: str, save_label: Save, heart_volumes: Path) -> str:
    """The server with labels of hearts, with the names that 3D Slicer sends: those of all models."""
    names = [{"name": name, "idx": number} for number, name in enumerate(("RV", "MYO", "LV", "polyp"), 1)]
    for name in HEARTS:
        saved = save_label(server, name, heart_volumes / "labels" / f"{name}.nii.gz", label_info=names)
        assert saved.status_code == 200, saved.text
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


def test_viewers_are_offered_what_they_know(server: str) -> None:
    trainers = requests.get(f"{server}/info/", timeout=60).json()["trainers"]
    assert trainers.keys() == {CARDIAC, POLYP}
    assert trainers[CARDIAC]["labels"] == ["RV", "MYO", "LV"]
    config = trainers[CARDIAC]["config"]
    assert config.pop("device")
    assert config == {
        **{"name": "train_01", "val_split": 0.2, "resume": False},
        **{"max_epochs": 20, "learning_rate": 0.0001, "train_batch_size": 12},
    }


@pytest.mark.parametrize("sync", [True, False])
def test_too_few_labels_are_told_before_anything_is_started(server: str, sync: bool) -> None:
    refused = train(server, POLYP, sync)
    assert refused.status_code == 400
    assert refused.json()["detail"].startswith("0 submitted labels of pictures are too few to train polyp_segmentation")
    # As OHIF asks.
    refused = requests.post(f"{server}/train/", json={POLYP: {"max_epochs": 1}}, timeout=60)
    assert refused.status_code == 400
    assert "polyp_segmentation: 0 submitted labels of pictures" in refused.json()["detail"]
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
        "learning_rate must be a number, as 0.0001; got '$print(1)'",
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


def status(server: str) -> dict[str, Any]:
    return requests.get(f"{server}/train/", timeout=60).json()


@pytest.fixture(scope="module")
def ended(hearts: str, bundles: Path) -> int:
    """A training that was started, watched and ended; how many epochs it finished."""
    answer = requests.post(f"{hearts}/train/", json={CARDIAC: SHORT | {"max_epochs": 900}}, timeout=60).json()
    assert answer[POLYP]["result"] is None
    assert answer[POLYP]["detail"].startswith("0 submitted labels of pictures")
    task = answer[CARDIAC]["result"]
    assert task["status"] in ("SUBMITTED", "RUNNING")
    for sync in (True, False):
        refused = train(hearts, POLYP, sync)
        assert refused.status_code == 429
        told = f"A training of {CARDIAC}, since {task['start_ts']}, is under way. Wait until"
        assert told in refused.json()["detail"]

    def told_two_epochs() -> bool:
        assert status(hearts)["status"] in ("SUBMITTED", "RUNNING"), status(hearts)
        return any("training: epoch 2/900, loss" in line for line in status(hearts).get("details", []))

    until(told_two_epochs)
    stats = requests.get(f"{hearts}/info/", timeout=60).json()["train_stats"]
    assert next(iter(stats)) == CARDIAC
    assert (stats[CARDIAC]["name"], stats[CARDIAC]["total_epochs"]) == ("train_01", 900)
    last = bundles / CARDIAC / "models" / "train_01" / "last.pt"
    until(lambda: last.is_file() and torch.load(last, weights_only=True)["epoch"] >= 2)
    assert requests.delete(f"{hearts}/train/", timeout=60).json()["status"] == "STOPPED"
    assert status(hearts)["status"] == "STOPPED"
    return int(torch.load(last, weights_only=True)["epoch"])


@pytest.fixture(scope="module")
def published(hearts: str, infer: Infer, read_mask: Read, ended: int) -> dict[str, Any]:
    """What a resumed training answered, and the masks before it."""
    before = read_mask(infer(hearts, CARDIAC, HEARTS[0]))
    answer = train(hearts, CARDIAC, **SHORT | {"resume": True, "max_epochs": ended + 1, "device": "cpu"})
    assert answer.status_code == 200, answer.text
    return {**answer.json(), "masks": before}


def test_what_was_ended_is_resumed(hearts: str, ended: int, published: dict[str, Any]) -> None:
    assert published["current_iteration"] == (ended + 1) * published["total_iterations"]
    assert published["epoch"] == published["total_epochs"] == ended + 1
    assert any(f"last.pt after epoch {ended}." in line for line in status(hearts)["details"])


def test_better_weights_are_published_and_run(
    hearts: str, infer: Infer, read_mask: Read, published: dict[str, Any], bundles: Path, images: Path
) -> None:
    assert published["published"] is True
    assert published["dice_after"] == published["best_metric"] > published["dice_before"]
    sides = json.loads((bundles / CARDIAC / "models" / "train_01" / "cases.json").read_text())
    patients = {side: {name[:10] for name in names} for side, names in sides.items()}
    assert sorted(map(len, patients.values())) == [1, 1]
    assert patients["training"] != patients["validation"]
    # The checkpoints of the training hold no frozen encoder; that in use is whole, as it was.
    sizes = {name: (bundles / CARDIAC / "models" / name).stat().st_size for name in ("train_01/model.pt", "model.pt")}
    assert sizes["train_01/model.pt"] < sizes["model.pt"] / 5
    after = read_mask(infer(hearts, CARDIAC, HEARTS[0]))
    assert (after != published["masks"]).any()
    predictor = BundlePredictor(bundles / CARDIAC, {"device": "cpu"})
    case = predictor.load(str(images / f"{HEARTS[0]}.nii.gz"))
    own = predictor.mask(case, predictor.predict([case])[0])
    np.testing.assert_array_equal(after, own[0].numpy())


def test_worse_weights_are_not_published(
    published: dict[str, Any], bundles: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from monai_sam2unet.label import fine_tuning
    from monai_sam2unet.label.app import SAM2UNetApp

    def spoilt(network: torch.nn.Module, path: Path) -> None:
        """As if what was learnt found nothing."""
        load_checkpoint(network, path)
        if path.parent.name == "worse":
            torch.nn.init.zeros_(network.head.weight)
            torch.nn.init.zeros_(network.head.bias)

    monkeypatch.setattr(fine_tuning, "load_checkpoint", spoilt)

    app = SAM2UNetApp(str(tmp_path), str(images), {"bundles": str(bundles)})
    models = bundles / CARDIAC / "models"
    weights = (models / "model.pt").read_bytes()
    result = app.train({"model": CARDIAC, "name": "worse", **SHORT, "max_epochs": 1})
    assert result["published"] is False
    assert result["dice_after"] < result["dice_before"] == result["best_metric"]
    assert result["dice_before"] == pytest.approx(published["dice_after"], abs=1e-4)
    assert result["result"].startswith("Not published, for it is worse")
    assert (models / "model.pt").read_bytes() == weights
    # What is held out was held out before.
    first, second = (json.loads((models / name / "cases.json").read_text()) for name in ("train_01", "worse"))
    assert first == second


def test_labels_of_other_classes_do_not_get_among_those_to_train_on(
    hearts: str, save_label: Save, images: Path, tmp_path: Path
) -> None:
    affine = nib.load(images / f"{HEARTS[2]}.nii.gz").affine
    nib.save(nib.Nifti1Image(np.full((24, 20, 6), 2, np.uint8), affine), tmp_path / "label.nii.gz")
    refused = save_label(hearts, HEARTS[2], tmp_path / "label.nii.gz", label_info=[{"name": "tumour", "idx": 2}])
    assert refused.status_code == 400
    assert "The label shows tumour (label_info), not all of which one model has" in refused.json()["detail"]
