# SPDX-License-Identifier: Apache-2.0
"""MONAI Label's own app for bundles, ``monaibundle``, runs ours as they are."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import requests
from PIL import Image

pytestmark = pytest.mark.label
Serve = Callable[..., AbstractContextManager[str]]
Infer = Callable[..., requests.Response]
CARDIAC, POLYP = "cardiac_mr_segmentation", "polyp_segmentation"


@pytest.fixture(scope="module")
def server(serve: Serve, small_bundles: Path, studies: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    app = tmp_path_factory.mktemp("app") / "monaibundle"
    shutil.copytree(Path(sys.prefix, "monailabel", "sample-apps", "monaibundle"), app)
    shutil.copytree(small_bundles, app / "model")
    options = ["--host", "127.0.0.1", "--conf", "models", f"{CARDIAC},{POLYP}", "--conf", "zoo_source", "local"]
    given = ["--app", app, "--studies", studies, "--uvicorn_app", "monai_sam2unet.label.server:app"]
    with serve("monailabel.main", "start_server", *given, *options) as url:
        yield url


def test_info_lists_the_bundles(server: str) -> None:
    info = requests.get(f"{server}/info/", timeout=60).json()
    assert info["models"].keys() == {CARDIAC, POLYP}
    assert info["models"][CARDIAC]["labels"] == {"rv": 1, "myo": 2, "lv": 3}
    assert info["models"][CARDIAC]["config"]["model_filename"][0] == "model.pt"


@pytest.mark.parametrize("number", [1, 2])
def test_volumes_are_as_the_bundle_predicts_them(
    server: str, infer: Infer, predicted: Path, studies: Path, tmp_path: Path, number: int
) -> None:
    written = tmp_path / "mask.nii.gz"
    written.write_bytes(infer(server, CARDIAC, f"heart{number}").content)
    mask, own, image = (
        nib.load(path) for path in (written, predicted / f"heart{number}.nii.gz", studies / f"heart{number}.nii.gz")
    )
    assert len(np.unique(own.dataobj)) > 2
    np.testing.assert_array_equal(np.asarray(mask.dataobj), np.asarray(own.dataobj))
    np.testing.assert_allclose(mask.affine, image.affine, atol=1e-5)
    assert mask.get_data_dtype() == np.uint8


@pytest.mark.parametrize("name", ["frame1", "frame2"])
def test_pictures_are_as_the_bundle_predicts_them(server: str, infer: Infer, predicted: Path, name: str) -> None:
    response = infer(server, POLYP, name)
    mask = np.asarray(Image.open(io.BytesIO(response.content)))
    own = np.asarray(Image.open(predicted / "masks" / f"{name}.png"))
    assert 0.05 < (own > 0).mean() < 0.95
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, own // 255)


@pytest.mark.parametrize("task", ["scoring", "train"])
def test_tasks_that_are_not_there_are_told(server: str, task: str) -> None:
    refused = requests.post(f"{server}/{task}/liver", params={"run_sync": True}, timeout=60)
    assert refused.status_code == 404, refused.text
    assert "liver" in refused.json()["detail"]
