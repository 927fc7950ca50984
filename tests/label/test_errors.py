# SPDX-License-Identifier: Apache-2.0
"""Mistakes and faults are told in words, with the right status, and the server goes on."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import requests
import torch

pytestmark = pytest.mark.label
Infer = Callable[..., requests.Response]
CARDIAC, POLYP = "cardiac_mr_segmentation", "polyp_segmentation"


@pytest.fixture
def server(folder_server: str) -> Iterator[str]:
    yield folder_server
    assert requests.get(f"{folder_server}/info/", timeout=60).status_code == 200


def told(answer: requests.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    return answer.json()["detail"]


def save(server: str, content: bytes, params: str = "{}", image: str = "heart1") -> requests.Response:
    return requests.put(
        f"{server}/datastore/label", params={"image": image, "tag": "final"}, data={"params": params},
        files={"label": ("label.nii.gz", content)}, timeout=60,
    )  # fmt: skip


def named(*labels: str) -> str:
    return json.dumps({"label_info": [{"name": label, "idx": number} for number, label in enumerate(labels, 1)]})


def test_files_of_the_server_are_not_images(server: str, infer: Infer, own_studies: Path) -> None:
    for path in (
        str(own_studies / "heart1.nii.gz"),
        os.path.relpath(own_studies / "heart1.nii.gz"),
        "../heart1",
        "tests",
    ):
        assert "There is no image" in told(infer(server, CARDIAC, path), 404)


def test_images_that_cannot_be_read(server: str, infer: Infer) -> None:
    assert told(infer(server, CARDIAC, "spoilt"), 400).startswith("spoilt.nii.gz cannot be read")
    # A picture for a model of volumes, and the other way round.
    assert told(infer(server, CARDIAC, "frame1"), 400).startswith("frame1.png ")
    detail = told(infer(server, POLYP, "heart1"), 400)
    assert detail.startswith("heart1.nii.gz is no picture")
    assert detail.endswith("ask a model of volumes.")


def test_weights_that_are_gone_and_come_back(server: str, infer: Infer, own_bundles: Path) -> None:
    path = own_bundles / CARDIAC / "models" / "model.pt"
    weights = path.read_bytes()
    path.unlink()
    try:
        assert "The weights of cardiac_mr_segmentation are gone" in told(infer(server, CARDIAC, "heart1"), 503)
        assert CARDIAC not in requests.get(f"{server}/info/", timeout=60).json()["models"]
        path.write_bytes(weights[:1000])
        assert "model.pt" in told(infer(server, CARDIAC, "heart1"), 503)
    finally:
        path.write_bytes(weights)
    assert infer(server, CARDIAC, "heart1").status_code == 200


def test_weights_that_are_sent_take_what_is_known_of_the_former_ones_away(
    server: str, infer: Infer, read_mask: Callable[[requests.Response], np.ndarray], own_bundles: Path, tmp_path: Path
) -> None:
    path = own_bundles / CARDIAC / "models" / "model.pt"
    weights, cases = path.read_bytes(), path.with_name("model.cases.json")
    torch.save({**torch.load(path, weights_only=True), "head.bias": torch.tensor([0.0, 0, 1000, 0])}, tmp_path / "new")

    def send(content: bytes, model: str = CARDIAC) -> requests.Response:
        return requests.put(f"{server}/model/{model}", files={"file": ("model.pt", content)}, timeout=60)

    try:
        cases.write_text("{}")
        answer = send((tmp_path / "new").read_bytes())
        assert answer.status_code == 200, answer.text
        assert answer.json() == {
            key: requests.get(f"{server}/model/info/{CARDIAC}", timeout=60).json()[key]
            for key in ("checksum", "modified_time")
        }
        assert not cases.exists()
        # The former ones are kept, as those that a training replaces.
        assert path.with_name("model.previous.pt").read_bytes() == weights
        assert path.with_name("model.previous.cases.json").read_text() == "{}"
        assert np.unique(read_mask(infer(server, CARDIAC, "heart1"))).tolist() == [2]
        assert "no model 'liver'" in told(send(weights, "liver"), 404)
        cases.write_text("{}")
        assert requests.delete(f"{server}/model/{CARDIAC}", timeout=60).status_code == 200
        assert not path.exists()
        assert not cases.exists()
        assert len(list(path.parent.glob("model*.deleted"))) == 2
        assert "has no weights" in told(requests.delete(f"{server}/model/{CARDIAC}", timeout=60), 404)
    finally:
        path.write_bytes(weights)
        for kept in (*path.parent.glob("model*.deleted"), *path.parent.glob("model.previous*")):
            kept.unlink()


def send_weights(server: str, model: str, content: bytes) -> requests.Response:
    return requests.put(f"{server}/model/{model}", files={"file": ("sent.pt", content)}, timeout=60)


def test_weights_that_do_not_fit_replace_none(server: str, infer: Infer, own_bundles: Path, tmp_path: Path) -> None:
    path, other = (own_bundles / name / "models" / "model.pt" for name in (CARDIAC, POLYP))
    weights, cases = path.read_bytes(), path.with_name("model.cases.json")
    cases.write_text("{}")
    torch.save({"head.bias": torch.zeros(4)}, tmp_path / "part.pt")
    try:
        for content in (b"", os.urandom(1000), other.read_bytes(), (tmp_path / "part.pt").read_bytes()):
            for model in (CARDIAC, f"{CARDIAC}_edit"):
                detail = told(send_weights(server, model, content), 400)
                assert detail.startswith(f"sent.pt does not fit {CARDIAC}, whose weights stay as they are: ")
                assert str(own_bundles) not in detail
        assert path.read_bytes() == weights
        assert cases.read_text() == "{}"
        assert not list(path.parent.glob("*.previous*"))
        assert infer(server, CARDIAC, "heart1").status_code == 200
    finally:
        path.write_bytes(weights)
        cases.unlink(missing_ok=True)


def test_weights_stay_while_a_training_runs(server: str, own_bundles: Path) -> None:
    from monai_sam2unet.label.bundle_train_task import training_lock

    path = own_bundles / CARDIAC / "models" / "model.pt"
    weights = path.read_bytes()
    with training_lock(own_bundles / CARDIAC):
        expected = f"A training of {CARDIAC} is under way, which starts from its weights and may replace them."
        assert told(send_weights(server, CARDIAC, weights), 409).startswith(expected)
        refused = requests.delete(f"{server}/model/{CARDIAC}_edit", timeout=60)
        assert told(refused, 409).startswith(expected)
    assert path.read_bytes() == weights


def test_weights_that_came_with_the_bundle_are_not_deleted(server: str, own_bundles: Path) -> None:
    models = own_bundles / POLYP / "models"
    kept = (models / "model.pt").rename(models / "aside.pt")
    try:
        for model in (POLYP, f"{POLYP}_scribbles"):
            detail = told(requests.delete(f"{server}/model/{model}", timeout=60), 409)
            assert detail.startswith(
                f"polyp_tiny.safetensors came with {POLYP} and is not deleted. To run other weights"
            )
        assert (models / "polyp_tiny.safetensors").is_file()
        # What a training from them published goes with its settings, and they are in use again.
        (models / "published.pt").touch()
        (models / "published.yaml").write_text("ckpt_path: $@bundle_root + '/models/published.pt'")
        assert requests.delete(f"{server}/model/{POLYP}", timeout=60).status_code == 200
        assert told(requests.delete(f"{server}/model/{POLYP}", timeout=60), 409)
        assert len(list(models.glob("published*.deleted"))) == 2
    finally:
        for file in models.glob("published*"):
            file.unlink()
        kept.rename(models / "model.pt")


@pytest.mark.skipif(torch.cuda.is_available(), reason="for servers without a GPU")
def test_devices_that_are_not_there(server: str, infer: Infer) -> None:
    expected = "The server has no device 'cuda'; it has cpu. Leave device out, or give one of these."
    assert told(infer(server, CARDIAC, "heart1", device="cuda"), 400) == expected
    asked = {"device": "cuda"}
    for path in (f"/batch/infer/{CARDIAC}", f"/scoring/{CARDIAC}_epistemic", f"/activelearning/{CARDIAC}_epistemic"):
        assert told(requests.post(server + path, json={**asked, "max_samples": 1}, timeout=60), 400) == expected
    assert expected in told(requests.post(f"{server}/train/{CARDIAC}", json=asked, timeout=60), 400)
    assert infer(server, CARDIAC, "heart1", device="cpu").status_code == 200


def test_requests_that_are_not_as_they_must_be(server: str, infer: Infer) -> None:
    def ask(**options: dict[str, str]) -> requests.Response:
        return requests.post(f"{server}/infer/{CARDIAC}", timeout=60, **options)

    assert "Say which image" in told(ask(), 400)
    assert "params is no JSON" in told(ask(params={"image": "heart1"}, data={"params": "{"}), 400)
    assert "must be a JSON object" in told(ask(params={"image": "heart1"}, data={"params": "[]"}), 400)
    assert ask(params={"image": "heart1", "output": "video"}).status_code == 422
    detail = told(infer(server, CARDIAC, "heart1", output="dicom_seg"), 400)
    assert detail == "A DICOM SEG is made of DICOM images only, and heart1.nii.gz is none. Ask for output=image."


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/datastore/image?image=heart9"),
        ("GET", "/datastore/label?label=heart9&tag=final"),
        ("GET", "/datastore/image/info?image=heart9"),
        ("GET", "/datastore/label/info?label=heart9&tag=final"),
        ("GET", "/datastore/label/info?label=heart1&tag=nosuch"),
        ("GET", "/model/liver"),
        ("GET", "/model/info/liver"),
        ("POST", "/activelearning/oracle"),
        ("POST", "/batch/infer/liver?run_sync=true"),
        ("PUT", "/datastore/image/info?image=heart9"),
        ("DELETE", "/datastore/image?id=heart9"),
        ("GET", "/nowhere"),
    ],
)
def test_what_is_not_there(server: str, method: str, path: str) -> None:
    assert told(requests.request(method, server + path, timeout=60), 404)
    # Of what is there nothing need be known.
    assert requests.get(f"{server}/datastore/image/info?image=frame2", timeout=60).status_code == 200


def test_labels_are_looked_at_before_they_are_kept(server: str, studies: Path, tmp_path: Path) -> None:
    image = nib.load(studies / "heart1.nii.gz")
    ids = np.zeros(image.shape, np.uint8)
    ids[2:8, 2:8, 1], ids[10:15, 2:8, 2], ids[10:15, 10:14, 3] = 1, 2, 3

    def written(values: np.ndarray, affine: np.ndarray = image.affine) -> bytes:
        nib.save(nib.Nifti1Image(values, affine), tmp_path / "label.nii.gz")
        return (tmp_path / "label.nii.gz").read_bytes()

    label = written(ids)
    assert "shows RV, MYO, liver (label_info), not all of which one model has" in told(
        save(server, label, named("RV", "MYO", "liver")), 400
    )
    assert "label_info must be a list" in told(save(server, label, '{"label_info": "RV"}'), 400)
    assert "but label_info names 1 segments only" in told(save(server, label, named("RV")), 400)
    assert "cannot be read" in told(save(server, label[:50]), 400)
    assert "no image 'heart9'" in told(save(server, label, image="heart9"), 404)
    assert "is no JSON" in told(save(server, label, "{"), 400)
    detail = told(save(server, written(ids, np.diag([1, 1, 1, 1.0]))), 400)
    assert "'the image heart1.nii.gz' and 'the label the file sent' do not have one grid" in detail
    assert "heart1" not in (path.name.split(".")[0] for path in (tmp_path / "labels" / "final").glob("*"))

    # A viewer names what is not there, too, as 3D Slicer the classes of all models.
    assert save(server, label, named("LV", "MYO", "RV", "polyp", "liver")).status_code == 200
    kept = requests.get(f"{server}/datastore/label", params={"label": "heart1", "tag": "final"}, timeout=60)
    (tmp_path / "kept.nii.gz").write_bytes(kept.content)
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "kept.nii.gz").dataobj), np.array([0, 3, 2, 1])[ids])
    assert requests.delete(f"{server}/datastore/label?id=heart1&tag=final", timeout=60).status_code == 200


def test_batches_run_without_a_gpu(server: str, own_studies: Path, predicted: Path) -> None:
    """As MONAI Label does by default: in a process of its own, all images, those that fail, too."""
    assert requests.post(f"{server}/batch/infer/{CARDIAC}", timeout=60).status_code == 200
    for _ in range(600):
        task = requests.get(f"{server}/batch/infer", timeout=60).json()
        if task["status"] not in ("SUBMITTED", "RUNNING"):
            break
        time.sleep(0.2)
    assert task["status"] == "DONE", task["details"]
    kept = own_studies / "labels" / "original"
    assert {path.name for path in kept.iterdir()} == {"heart1.nii.gz", "heart2.nii.gz"}
    for path in kept.iterdir():
        own = nib.load(predicted / path.name)
        np.testing.assert_array_equal(np.asarray(nib.load(path).dataobj), np.asarray(own.dataobj))
    tags = requests.get(f"{server}/datastore/", timeout=60).json()["label_tags"]
    assert tags.get("original") == 2
