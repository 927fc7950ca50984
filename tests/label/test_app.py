# SPDX-License-Identifier: Apache-2.0
"""The app of this package: a real server, started as a user starts it, gives what the bundles' own inference gives."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import requests
import torch
from PIL import Image

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.label import compat

pytestmark = pytest.mark.label
Serve = Callable[..., AbstractContextManager[str]]
Infer = Callable[..., requests.Response]
CARDIAC, POLYP = "cardiac_mr_segmentation", "polyp_segmentation"


@pytest.fixture(scope="module")
def bundles(small_bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles whose weights the tests may replace."""
    folder = tmp_path_factory.mktemp("own") / "bundles"
    shutil.copytree(small_bundles, folder)
    return folder


@pytest.fixture(scope="module")
def server(
    serve: Serve, bundles: Path, studies: Path, predicted: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    app, images = tmp_path_factory.mktemp("app"), tmp_path_factory.mktemp("images")
    for file in studies.glob("*.*"):
        shutil.copy(file, images)
    with serve("monai_sam2unet", "label", "--studies", images, "--bundles", bundles, "--app", app) as url:
        yield url


def as_array(response: requests.Response, folder: Path) -> np.ndarray:
    """The volume of a NIfTI response."""
    assert response.status_code == 200, response.text
    (folder / "mask.nii.gz").write_bytes(response.content)
    return np.asarray(nib.load(folder / "mask.nii.gz").dataobj)


def own_volume(predicted: Path, name: str) -> np.ndarray:
    return np.asarray(nib.load(predicted / f"{name}.nii.gz").dataobj)


def own_picture(predicted: Path, name: str) -> np.ndarray:
    return np.asarray(Image.open(predicted / "masks" / f"{name}.png")) // 255


def test_info_says_what_the_models_find(server: str) -> None:
    info = requests.get(f"{server}/info/", timeout=60).json()
    models = info["models"]
    segmentation = {name: model for name, model in models.items() if model["type"] == "segmentation"}
    assert {name: (model["labels"], model["dimension"]) for name, model in segmentation.items()} == {
        CARDIAC: ({"RV": 1, "MYO": 2, "LV": 3}, 3),
        POLYP: ({"polyp": 1}, 2),
    }
    assert info["labels"] == ["RV", "MYO", "LV", "background", "polyp"]
    assert info["datastore"]["total"] == 4


@pytest.mark.parametrize("name", ["heart1", "heart2"])
def test_volumes_are_as_the_bundle_predicts_them(
    server: str, infer: Infer, predicted: Path, studies: Path, tmp_path: Path, name: str
) -> None:
    mask = as_array(infer(server, CARDIAC, name), tmp_path)
    np.testing.assert_array_equal(mask, own_volume(predicted, name))
    assert mask.dtype == np.uint8
    written = nib.load(tmp_path / "mask.nii.gz")
    np.testing.assert_allclose(written.affine, nib.load(studies / f"{name}.nii.gz").affine, atol=1e-5)


@pytest.mark.parametrize("name", ["frame1", "frame2"])
def test_pictures_are_as_the_bundle_predicts_them(server: str, infer: Infer, predicted: Path, name: str) -> None:
    mask = np.asarray(Image.open(io.BytesIO(infer(server, POLYP, name).content)))
    np.testing.assert_array_equal(mask, own_picture(predicted, name))
    assert mask.dtype == np.uint8


def test_viewers_get_nrrd_with_the_same_ids(server: str, infer: Infer, predicted: Path, tmp_path: Path) -> None:
    """As OHIF asks for it."""
    import nrrd

    asked = {"result_extension": ".nrrd", "result_dtype": "uint8", "restore_label_idx": False}
    (tmp_path / "mask.nrrd").write_bytes(infer(server, CARDIAC, "heart1", **asked).content)
    mask, header = nrrd.read(str(tmp_path / "mask.nrrd"))
    np.testing.assert_array_equal(mask, own_volume(predicted, "heart1"))
    assert header["type"] in ("unsigned char", "uint8")


def test_json_has_labels_and_times(server: str, infer: Infer) -> None:
    answer = infer(server, POLYP, "frame1", output="json").json()
    assert answer["label_names"] == {"polyp": 1}
    assert answer["latencies"]["total"] < 60


def test_all_has_both(server: str, infer: Infer, predicted: Path, tmp_path: Path) -> None:
    from requests_toolbelt import MultipartDecoder

    params, image = MultipartDecoder.from_response(infer(server, CARDIAC, "heart2", output="all")).parts
    assert json.loads(params.text)["label_names"] == {"RV": 1, "MYO": 2, "LV": 3}
    (tmp_path / "mask.nii.gz").write_bytes(image.content)
    np.testing.assert_array_equal(
        np.asarray(nib.load(tmp_path / "mask.nii.gz").dataobj), own_volume(predicted, "heart2")
    )


def test_uploads_are_predicted_and_spoilt_ones_told(
    server: str, predicted: Path, studies: Path, tmp_path: Path
) -> None:
    image = (studies / "heart1.nii.gz").read_bytes()

    def upload(content: bytes) -> requests.Response:
        file = {"file": ("any.nii.gz", content)}
        return requests.post(f"{server}/infer/{CARDIAC}", params={"output": "image"}, files=file, timeout=120)

    np.testing.assert_array_equal(as_array(upload(image), tmp_path), own_volume(predicted, "heart1"))
    refused = upload(image[:500])
    assert refused.status_code == 400
    assert "cannot be read" in refused.json()["detail"]


def test_what_is_not_there_is_told(server: str, infer: Infer) -> None:
    refused = infer(server, "liver", "heart1")
    assert refused.status_code == 404
    assert refused.json()["detail"].startswith(f"There is no model 'liver'; there are {CARDIAC}, ")
    refused = infer(server, CARDIAC, "heart9")
    assert (refused.status_code, refused.json()["detail"]) == (404, "There is no image 'heart9' among the 4 studies.")
    assert requests.get(f"{server}/info/", timeout=60).status_code == 200


def test_the_datastore_keeps_what_annotators_send(server: str, studies: Path, predicted: Path) -> None:
    image, label = (studies / "heart1.nii.gz").read_bytes(), (predicted / "heart1.nii.gz").read_bytes()
    for content, name in ((image, "label.nii.gz"), (b"{}", "label.json")):
        refused = requests.put(
            f"{server}/datastore/label", params={"image": "heart1", "tag": "final"},
            files={"label": (name, content)}, timeout=60,
        )  # fmt: skip
        assert refused.status_code == 400, refused.text
    saved = requests.put(
        f"{server}/datastore/label", params={"image": "heart1", "tag": "final"},
        files={"label": ("label.nii.gz", label)}, timeout=60,
    )  # fmt: skip
    assert saved.status_code == 200, saved.text
    sent_back = requests.get(f"{server}/datastore/label", params={"label": "heart1", "tag": "final"}, timeout=60)
    assert sent_back.content == label
    assert requests.get(f"{server}/datastore/", timeout=60).json()["completed"] == 1
    for strategy in ("first", "random"):
        sample = requests.post(f"{server}/activelearning/{strategy}", timeout=60).json()
        assert sample["id"] in {"heart2", "frame1", "frame2"}


def test_replaced_weights_are_loaded_anew(
    server: str, infer: Infer, bundles: Path, predicted: Path, tmp_path: Path
) -> None:
    path = bundles / CARDIAC / "models" / "model.pt"
    weights = torch.load(path, weights_only=True)
    weights["head.bias"] = torch.tensor([0.0, 0.0, 1000.0, 0.0])
    torch.save(weights, path)
    assert np.unique(as_array(infer(server, CARDIAC, "heart1"), tmp_path)).tolist() == [2]


def test_bundles_are_found_by_their_names_and_told_apart(bundles: Path, tmp_path: Path) -> None:
    compat.apply()
    from monai_sam2unet.label.find_bundles import find_bundles

    def found(*given: object) -> list[str]:
        return [path.name for path in find_bundles(*given)]

    assert found(bundles) == [CARDIAC, POLYP]
    assert found(bundles, "polyp, cardiac_mr_segmentation") == [POLYP, CARDIAC]
    assert found(tmp_path, str(bundles / CARDIAC)) == [CARDIAC]
    with pytest.raises(ConfigError, match=r"No bundle in .* has weights"):
        find_bundles(tmp_path)
    with pytest.raises(ConfigError, match=r"(?s)has cardiac_mr_segmentation, polyp_segmentation:.*liver: no bundle"):
        find_bundles(bundles, "liver,polyp")
    bare = shutil.copytree(bundles / CARDIAC, tmp_path / CARDIAC)
    (bare / "models" / "model.pt").unlink()
    with pytest.raises(ConfigError, match=r"cardiac: no weights .*model\.pt\); train it first"):
        find_bundles(tmp_path, "cardiac")


def test_settings_that_no_bundle_has_are_told(bundles: Path) -> None:
    compat.apply()
    from monai_sam2unet.label.find_bundles import check_settings

    folders = [bundles / CARDIAC, bundles / POLYP]
    check_settings(folders, ["encoder_size", "preload"])
    with pytest.raises(ConfigError, match=r"--conf encodersize: no bundle .* Did you mean encoder_size\?"):
        check_settings(folders, ["encodersize"])
