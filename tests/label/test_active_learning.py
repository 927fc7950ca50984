# SPDX-License-Identifier: Apache-2.0
"""Which image comes next, and the scores that say so: a real server, asked as viewers ask it."""

from __future__ import annotations

import doctest
import json
import re
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
from monai_sam2unet.errors import ConfigError
from monai_sam2unet.label import compat

pytestmark = pytest.mark.label
Infer = Callable[..., requests.Response]
Save = Callable[..., requests.Response]
Bias = Callable[[str, list[float]], AbstractContextManager[None]]
CARDIAC, POLYP = "cardiac_mr_segmentation", "polyp_segmentation"
UNSURE = f"{POLYP}_epistemic"


@pytest.fixture(scope="module")
def server(folder_server: str) -> Iterator[str]:
    """A server whose labels are removed afterwards."""
    yield folder_server
    for image, tag in (("heart1", "original"), ("heart1", "final"), ("frame1", "final"), ("frame2", "final")):
        requests.delete(f"{folder_server}/datastore/label", params={"id": image, "tag": tag}, timeout=60)


def next_image(server: str, strategy: str = UNSURE, **params: object) -> requests.Response:
    return requests.post(f"{server}/activelearning/{strategy}", json=params, timeout=120)


def score(server: str, method: str, **params: object) -> Any:
    found = requests.post(f"{server}/scoring/{method}", params={"run_sync": True}, json=params, timeout=120)
    assert found.status_code == 200, found.text
    return found.json()


def wait_for_scoring(server: str) -> dict[str, Any]:
    for _ in range(600):
        task = requests.get(f"{server}/scoring/", timeout=60).json()
        if task["status"] not in ("SUBMITTED", "RUNNING"):
            return task
        time.sleep(0.2)
    raise AssertionError(f"the scoring does not end: {task}")


def info(server: str, image: str) -> dict[str, Any]:
    return requests.get(f"{server}/datastore/image/info", params={"image": image}, timeout=60).json()


def entropy_over_flips(bundle: Path, image: Path) -> float:
    """The score in plain words: bits a pixel of the mean of four passes, over what any of them finds."""
    predictor = BundlePredictor(bundle, {"device": "cpu"})
    x = predictor.load(str(image))["image"][None].as_tensor()
    with torch.no_grad():
        turned = [(), (2,), (3,), (2, 3)]
        p = torch.stack([torch.sigmoid(predictor.network(x.flip(dims)).flip(dims)) for dims in turned]).numpy()
    mean = p.mean(0)
    entropy = -mean * np.log2(mean) - (1 - mean) * np.log2(1 - mean)
    return float(entropy[(p >= 0.5).any(0)].mean())


def test_info_lists_strategies_and_scoring_tasks(server: str) -> None:
    told = requests.get(f"{server}/info/", timeout=60).json()
    assert list(told["strategies"]) == ["random", "first", f"{CARDIAC}_epistemic", UNSURE]
    assert list(told["scoring"]) == ["dice", f"{CARDIAC}_epistemic", UNSURE]
    assert told["strategies"][UNSURE]["config"] == {"max_samples": 0}


def test_without_scores_one_comes_at_random_and_scores_are_made_beside(
    server: str, own_bundles: Path, own_studies: Path
) -> None:
    first = next_image(server).json()
    assert (first["score"], first["scored"], first["unscored"]) == (None, 0, 5)
    assert first["note"] == "At random: none of the 5 images has a score yet."
    assert wait_for_scoring(server)["status"] == "DONE"

    found = {name: info(server, name)["epistemic"][POLYP] for name in ("frame1", "frame2", "heart1", "heart2")}
    written = str((own_bundles / POLYP / "models" / "model.pt").stat().st_mtime_ns)
    assert {one["weights"] for one in found.values()} == {written}
    for name in ("frame1.png", "frame2.jpg"):
        expected = entropy_over_flips(own_bundles / POLYP, own_studies / name)
        assert found[name.partition(".")[0]]["score"] == pytest.approx(expected, abs=1e-4)
    assert found["heart1"]["score"] is None
    assert "heart1.nii.gz" in found["heart1"]["reason"]


def test_the_highest_score_comes_first_and_annotators_get_different_images(server: str) -> None:
    scores = {name: info(server, name)["epistemic"][POLYP]["score"] for name in ("frame1", "frame2")}
    served = info(server, "frame1").get("strategy", {}), info(server, "frame2").get("strategy", {})
    left = [name for name, one in zip(scores, served, strict=True) if UNSURE not in one]
    order = sorted(left, key=scores.__getitem__, reverse=True)
    for name in order:
        sample = next_image(server, client_id="me").json()
        assert (sample["id"], sample["score"]) == (name, scores[name])
        assert (sample["scored"], sample["unscored"]) == (2, 0)
        lately = 2 - len(order) + order.index(name)
        told = f" but for {lately} given out in the last day" if lately else ""
        assert sample["note"] == f"The highest of 2 scores{told}."
    sample = next_image(server).json()
    assert sample["id"] in scores
    assert sample["note"] == "All 2 were given out in the last day, this one first."


def test_scores_are_made_by_request_as_many_as_wanted(server: str) -> None:
    method = f"{CARDIAC}_epistemic"
    done = score(server, method, max_samples=1)
    assert (done["total"], done["skipped"], done["executed"]) == (5, 0, 1)
    done = score(server, method)
    assert (done["skipped"], done["executed"]) == (1, 4)
    assert done["failed"].keys() <= {"frame1", "frame2", "spoilt"}
    assert score(server, method)["executed"] == 0
    values = [info(server, name)["epistemic"][CARDIAC]["score"] for name in ("heart1", "heart2")]
    assert all(0 < value <= 1 for value in values)
    assert info(server, "frame1")["epistemic"].keys() == {CARDIAC, POLYP}


def test_new_weights_make_scores_old(server: str, other_bias: Bias) -> None:
    with other_bias(POLYP, [50.0]):
        sample = next_image(server, max_samples=5).json()
        assert (sample["scored"], sample["unscored"]) == (2, 0)
        assert sample["score"] < 1e-3, "a network that is sure of everything has no entropy"


def test_what_is_wrong_is_told(server: str) -> None:
    refused = next_image(server, "liver_epistemic")
    assert (refused.status_code, refused.json()["detail"]) == (
        404,
        f"There is no strategy 'liver_epistemic'; there are random, first, {CARDIAC}_epistemic, {UNSURE}.",
    )
    refused = next_image(server, max_samples="some")
    assert (refused.status_code, refused.json()["detail"]) == (
        400,
        "max_samples must be a whole number of images, got 'some'.",
    )
    assert requests.post(f"{server}/scoring/iou", timeout=60).status_code == 404
    refused = requests.post(f"{server}/scoring/iou", params={"run_sync": True}, timeout=60)
    assert (refused.status_code, refused.json()["detail"]) == (
        404,
        f"There is no scoring task 'iou'; there are dice, {CARDIAC}_epistemic, {UNSURE}.",
    )
    refused = requests.post(f"{server}/scoring/dice", params={"run_sync": True}, json={"model": "liver"}, timeout=60)
    assert (refused.status_code, refused.json()["detail"]) == (
        400,
        f"There is no model 'liver'; there are {CARDIAC}, {POLYP}.",
    )
    for sync in (True, False):
        for key in ("y", "y_pred"):
            asked = {"params": {"run_sync": sync}, "json": {key: "nosuch"}, "timeout": 60}
            refused = requests.post(f"{server}/scoring/dice", **asked)
            assert refused.status_code == 400
            assert refused.json()["detail"].startswith(f"{key}: no label has the tag 'nosuch'; the tags of labels are ")


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum())) if a.any() or b.any() else 1.0


def test_dice_tells_classes_apart_whatever_numbers_the_viewer_gave_them(
    server: str, infer: Infer, save_label: Save, predicted: Path, tmp_path: Path
) -> None:
    assert infer(server, CARDIAC, "heart1", save_label=True).status_code == 200
    own = nib.load(predicted / "heart1.nii.gz")
    mask = np.asarray(own.dataobj)
    corrected = mask.copy()
    corrected[mask.shape[0] // 2 :] = 0
    numbered = np.zeros_like(corrected)
    for there, here in ((1, 3), (2, 1), (3, 2)):
        numbered[corrected == there] = here
    nib.save(nib.Nifti1Image(numbered, own.affine), tmp_path / "final.nii.gz")
    names = [{"name": "MYO", "idx": 1}, {"name": "LV", "idx": 2}, {"name": "RV", "idx": 3}]
    assert save_label(server, "heart1", tmp_path / "final.nii.gz", label_info=names).status_code == 200

    found = score(server, "dice")
    expected = {name: dice(mask == n, corrected == n) for n, name in enumerate(("RV", "MYO", "LV"), 1)}
    assert found["failed"] == {}
    assert found["images"]["heart1"]["model"] == CARDIAC
    assert found["images"]["heart1"]["classes"] == pytest.approx(expected, abs=1e-6)
    assert 0 < expected["RV"] < 1
    assert info(server, "heart1")["dice"] == pytest.approx(np.mean(list(expected.values())), abs=1e-6)


def test_dice_of_pictures_predicted_anew(server: str, other_bias: Bias, save_label: Save, tmp_path: Path) -> None:
    """As PNG of 0 and 255, and as a viewer of volumes saves it; of weights that find polyp everywhere."""
    truth = np.zeros((72, 104), np.uint8)
    truth[:, :26] = 1
    Image.fromarray(truth * 255).save(tmp_path / "mask.png")
    assert save_label(server, "frame1", tmp_path / "mask.png").status_code == 200
    nib.save(nib.Nifti1Image(truth.T[..., None], np.diag([-1.0, -1.0, 1.0, 1.0])), tmp_path / "mask.nii.gz")
    polyp = [{"name": "polyp", "idx": 1}]
    assert save_label(server, "frame2", tmp_path / "mask.nii.gz", label_info=polyp).status_code == 200
    with other_bias(POLYP, [50.0]):
        found = score(server, "dice", model=POLYP)
    assert found["images"].keys() == {"frame1", "frame2"}
    for one in found["images"].values():
        assert one["classes"] == {"polyp": pytest.approx(2 * 0.25 / 1.25, abs=1e-6)}
    assert found["mean"] == {POLYP: pytest.approx(0.4, abs=1e-6)}
    assert "heart1" in found["failed"]


def test_labelled_images_are_not_asked_for_again(server: str) -> None:
    refused = next_image(server, max_samples=5)
    assert refused.status_code == 400
    assert re.search("can read none of the 2 images. (heart2|spoilt): ", refused.json()["detail"])
    assert next_image(server, f"{CARDIAC}_epistemic").json()["id"] == "heart2"


def test_a_label_that_came_in_meanwhile_is_kept(studies: Path, tmp_path: Path) -> None:
    compat.apply()
    from monailabel.datastore.local import LocalDatastore

    from monai_sam2unet.label.image_info import update_image_info

    shutil.copy(studies / "frame1.png", tmp_path)
    beside = LocalDatastore(str(tmp_path), extensions=("*.png",))
    server = LocalDatastore(str(tmp_path), extensions=("*.png",))
    server.save_label("frame1", str(tmp_path / "frame1.png"), "final", {"who": "me"})
    update_image_info(beside, "frame1", {"dice": 0.5})
    update_image_info(server, "frame1", {"polyp": 1}, key="epistemic")
    update_image_info(beside, "frame1", {"heart": 2}, key="epistemic")
    update_image_info(beside, "gone", {"dice": 0.5})
    kept = LocalDatastore(str(tmp_path), extensions=("*.png",))
    assert kept.get_label_info("frame1", "final")["who"] == "me"
    assert kept.get_image_info("frame1")["dice"] == 0.5
    assert kept.get_image_info("frame1")["epistemic"] == {"polyp": 1, "heart": 2}


def test_scores_are_made_beside_once_and_only_where_wanted(
    small_bundles: Path, studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compat.apply()
    from monailabel.utils.async_tasks.utils import background_tasks

    from monai_sam2unet.label.app import SAM2UNetApp, settings
    from monai_sam2unet.label.image_info import update_image_info

    shutil.copy(studies / "frame1.png", tmp_path)
    monkeypatch.setattr(settings, "MONAI_LABEL_DATASTORE_AUTO_RELOAD", False)
    app = SAM2UNetApp(str(tmp_path), str(tmp_path), {"bundles": str(small_bundles), "models": POLYP})
    app.server_mode(True)
    started: list[str] = []
    bounds: list[Any] = []
    monkeypatch.setattr(app, "async_scoring", lambda name, params: (started.append(name), bounds.append(params[name])))
    app.next_sample({"strategy": "first"})
    assert started == []
    app.next_sample({"strategy": UNSURE})
    assert (started, bounds) == ([UNSURE], [{}])
    with monkeypatch.context() as patch:
        patch.setattr("monai_sam2unet.label.app.DicomwebStore", type(app.datastore()))
        app.next_sample({"strategy": UNSURE})
    assert bounds == [{}, {"max_samples": 20}]
    started.pop()
    under_way = {"status": "RUNNING", "request": {"method": UNSURE}}
    with monkeypatch.context() as patch:
        patch.setitem(background_tasks, "scoring", [under_way])
        app.next_sample({"strategy": UNSURE})
    monkeypatch.setattr(settings, "MONAI_LABEL_AUTO_UPDATE_SCORING", False)
    old = {"score": 0.5, "weights": "1", "reason": None}
    update_image_info(app.datastore(), "frame1", {POLYP: old}, key="epistemic")
    sample = app.next_sample({"strategy": UNSURE})
    assert started == [UNSURE]
    assert (sample["id"], sample["score"], sample["scored"], sample["unscored"]) == ("frame1", 0.5, 0, 1)
    assert sample["note"].endswith("; scores are those of earlier weights, for there is none of the present ones yet.")


@pytest.mark.parametrize(
    ("axes", "expected"),
    [
        ([0, 1], {"flips": ["rows", "columns", "both"]}),
        ([1], {"flips": ["columns"]}),
        ([], {"scales": [1, 0.75, 1.25]}),
    ],
)
def test_images_are_turned_as_in_the_training(tmp_path: Path, axes: list[int], expected: dict[str, object]) -> None:
    compat.apply()
    from monai_sam2unet.label.epistemic_scoring import test_time_augmentation as augmentation_of

    transforms = [{"_target_": "RandFlipd", "spatial_axis": axis} for axis in axes]
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "train.yaml").write_text(json.dumps({"train": {"random_transforms": transforms}}))
    assert augmentation_of(tmp_path) == expected


def test_passes_of_the_bundles_own_inference_do_not_hide_disagreement(small_bundles: Path, studies: Path) -> None:
    """Averaged over flips, predictions are the same whatever way the image is turned."""
    compat.apply()
    from monai_sam2unet.label.bundle_infer_task import BundleInferTask
    from monai_sam2unet.label.epistemic_scoring import EpistemicScoring

    plain, averaged = (
        EpistemicScoring(BundleInferTask(small_bundles / POLYP, settings)).measure(str(studies / "frame1.png"), "cpu")
        for settings in ({}, {"flips": ["rows", "columns", "both"]})
    )
    assert plain == averaged


def test_images_are_read_while_masks_are_made(
    small_bundles: Path, studies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compat.apply()
    from monai_sam2unet.label.bundle_infer_task import BundleInferTask
    from monai_sam2unet.label.epistemic_scoring import EpistemicScoring

    scoring = EpistemicScoring(BundleInferTask(small_bundles / POLYP, {}))
    path = str(studies / "frame1.png")
    expected = scoring.measure(path, "cpu")
    preset, preprocessing, inferer, activation = scoring._parts()
    free: list[bool] = []

    def prepared(data: dict[str, Any]) -> Any:
        free.append(not scoring.task._turn.locked())
        if len(free) == 1:
            # As if other weights were published meanwhile.
            scoring._made = (scoring.task.checkpoint, (preset, prepared, inferer, activation))
        return preprocessing(data)

    scoring._made = (scoring.task.checkpoint, (preset, prepared, inferer, activation))
    assert scoring.measure(path, "cpu") == expected
    assert free == [True, True]


def test_examples_and_numbers_of_images() -> None:
    compat.apply()
    from monai_sam2unet.label import dice_scoring, epistemic_scoring

    for module in (dice_scoring, epistemic_scoring):
        assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0
    with pytest.raises(ConfigError, match=r"got 1\.5"):
        epistemic_scoring.at_most({"max_samples": 1.5})
