# SPDX-License-Identifier: Apache-2.0
"""Each fault that is worked round is still there upstream, and gone here."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from monai_sam2unet.label import compat

pytestmark = pytest.mark.label
MENDED = "mended upstream: remove what works round it from monai_sam2unet/label/compat.py"


@pytest.mark.parametrize(
    ("package", "fault"),
    [
        ("pydicom_seg", "No module named 'pydicom._storage_sopclass_uids'"),
        ("torchvision", "operator torchvision::nms does not exist"),
    ],
)
def test_packages_cannot_be_imported_without(package: str, fault: str) -> None:
    done = subprocess.run([sys.executable, "-c", f"import {package}"], capture_output=True, text=True)
    assert done.returncode != 0, MENDED
    assert fault in done.stderr


def test_what_is_missing_in_other_versions_is_not_declared_again() -> None:
    compat.apply()
    compat.apply()
    import pydicom_seg
    from torchvision.utils import make_grid

    assert callable(make_grid)
    assert pydicom_seg.MultiClassWriter


def test_the_best_weights_are_run_not_those_with_the_shortest_name(small_bundles: Path) -> None:
    compat.apply()
    from monailabel.tasks.infer.bundle import BundleInferTask

    def first(init: object) -> str:
        task = object.__new__(BundleInferTask)
        init(task, str(small_bundles / "polyp_segmentation"), {})
        return task.config()["model_filename"][0]

    assert first(BundleInferTask.__init__.__wrapped__) == "last.pt", MENDED
    assert first(BundleInferTask.__init__) == "model.pt"


def test_batches_are_not_shared_among_no_gpus() -> None:
    compat.apply()
    from monailabel.interfaces.tasks.batch_infer import BatchInferTask

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")

    def infer(request: dict, datastore: object) -> dict:
        return {"device": request["device"]}

    with pytest.raises(ZeroDivisionError):  # else: mended upstream
        BatchInferTask.__call__.__wrapped__(BatchInferTask(), {"images": ["heart"]}, None, infer)
    assert BatchInferTask()({"images": ["heart"]}, None, infer) == {"heart": {"device": "cpu"}}


def test_endpoints_answer_in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    compat.answer_in_threads()
    compat.answer_in_threads()
    from monailabel.endpoints import info, proxy

    monkeypatch.setattr(info, "app_info", threading.get_ident)
    (route,) = info.router.routes
    assert asyncio.run(info.api_app_info(user=None)) == threading.get_ident(), MENDED
    assert asyncio.run(route.endpoint(user=None)) != threading.get_ident()
    # What it sends on has to be waited for.
    assert all(hasattr(one.endpoint, "__wrapped__") is ("GET" in one.methods) for one in proxy.router.routes)


def test_tokens_are_verified_by_the_algorithm_that_signs_them() -> None:
    import jwt

    compat.apply()
    from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
    from monailabel.endpoints.user import auth

    key = generate_private_key(65537, 2048)
    token = jwt.encode({"name": "Ann"}, key, "RS256")
    with pytest.raises(jwt.DecodeError, match="algorithms"):
        jwt.decode(token, key.public_key(), options={"verify_signature": True})
    assert "algorithms" not in inspect.getsource(auth), MENDED
    assert auth.jwt.decode(token, key.public_key(), options={"verify_signature": True}) == {"name": "Ann"}


def test_the_list_is_not_empty_while_it_is_made_anew(studies: Path) -> None:
    """Upstream's is, for as long as it takes to look at the folder."""
    compat.apply()
    from monailabel.datastore.local import LocalDatastore

    from monai_sam2unet.label.locked_store import LockedStore

    assert "objects.clear()" in inspect.getsource(LocalDatastore._remove_non_existing), MENDED
    store = LockedStore(str(studies), extensions=["*.nii.gz"])
    images = sorted(store.list_images())
    assert "heart1" in images
    emptied, answered = threading.Event(), threading.Event()

    def make_anew() -> None:
        with store._turn:
            kept = dict(store._datastore.objects)
            store._datastore.objects.clear()
            emptied.set()
            answered.wait(0.2)
            store._datastore.objects.update(kept)

    thread = threading.Thread(target=make_anew)
    thread.start()
    emptied.wait()
    found = store.list_images()
    answered.set()
    thread.join()
    assert sorted(found) == images
