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
    assert "spoilt.nii.gz cannot be read" in told(infer(server, CARDIAC, "spoilt"), 400)
    # A picture for a model of volumes.
    assert "frame1.png" in told(infer(server, CARDIAC, "frame1"), 400)


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
        for kept in path.parent.glob("model*.deleted"):
            kept.unlink()


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
    assert "do not have one grid" in told(save(server, written(ids, np.diag([1, 1, 1, 1.0]))), 400)
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
