# SPDX-License-Identifier: Apache-2.0
"""The app of this package: a real server, started as a user starts it, gives what the bundles' own inference gives."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import requests

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.label import compat

pytestmark = pytest.mark.label
Infer = Callable[..., requests.Response]
Read = Callable[[requests.Response], np.ndarray]
Own = Callable[[str], np.ndarray]
CARDIAC, POLYP = "cardiac_mr_segmentation", "polyp_segmentation"


@pytest.fixture
def server(folder_server: str) -> str:
    return folder_server


def test_info_says_what_the_models_find(server: str) -> None:
    info = requests.get(f"{server}/info/", timeout=60).json()
    models = info["models"]
    segmentation = {name: model for name, model in models.items() if model["type"] == "segmentation"}
    assert {name: (model["labels"], model["dimension"]) for name, model in segmentation.items()} == {
        CARDIAC: ({"RV": 1, "MYO": 2, "LV": 3}, 3),
        POLYP: ({"polyp": 1}, 2),
    }
    assert info["labels"] == ["RV", "MYO", "LV", "background", "polyp"]
    assert info["datastore"]["total"] == 5


@pytest.mark.parametrize("name", ["heart1", "heart2"])
def test_volumes_are_as_the_bundle_predicts_them(
    server: str, infer: Infer, read_mask: Read, own_mask: Own, studies: Path, name: str
) -> None:
    answer = infer(server, CARDIAC, name)
    np.testing.assert_array_equal(read_mask(answer), own_mask(name))
    assert read_mask(answer).dtype == np.uint8
    written = nib.Nifti1Image.from_bytes(gzip.decompress(answer.content))
    np.testing.assert_allclose(written.affine, nib.load(studies / f"{name}.nii.gz").affine, atol=1e-5)


@pytest.mark.parametrize("name", ["frame1", "frame2"])
def test_pictures_are_as_the_bundle_predicts_them(
    server: str, infer: Infer, read_mask: Read, own_mask: Own, name: str
) -> None:
    mask = read_mask(infer(server, POLYP, name))
    np.testing.assert_array_equal(mask, own_mask(name))
    assert mask.dtype == np.uint8


def test_viewers_get_nrrd_with_the_same_ids(server: str, infer: Infer, own_mask: Own, tmp_path: Path) -> None:
    """As OHIF asks for it."""
    import nrrd

    asked = {"result_extension": ".nrrd", "result_dtype": "uint8", "restore_label_idx": False}
    (tmp_path / "mask.nrrd").write_bytes(infer(server, CARDIAC, "heart1", **asked).content)
    mask, header = nrrd.read(str(tmp_path / "mask.nrrd"))
    np.testing.assert_array_equal(mask, own_mask("heart1"))
    assert header["type"] in ("unsigned char", "uint8")


def test_json_has_labels_and_times(server: str, infer: Infer) -> None:
    answer = infer(server, POLYP, "frame1", output="json").json()
    assert answer["label_names"] == {"polyp": 1}
    assert answer["latencies"]["total"] < 60


def test_all_has_both(server: str, infer: Infer, own_mask: Own) -> None:
    from requests_toolbelt import MultipartDecoder

    params, image = MultipartDecoder.from_response(infer(server, CARDIAC, "heart2", output="all")).parts
    assert json.loads(params.text)["label_names"] == {"RV": 1, "MYO": 2, "LV": 3}
    mask = nib.Nifti1Image.from_bytes(gzip.decompress(image.content))
    np.testing.assert_array_equal(np.asarray(mask.dataobj), own_mask("heart2"))


def test_uploads_are_predicted_and_spoilt_ones_told(server: str, read_mask: Read, own_mask: Own, studies: Path) -> None:
    image = (studies / "heart1.nii.gz").read_bytes()

    def upload(content: bytes) -> requests.Response:
        file = {"file": ("any.nii.gz", content)}
        return requests.post(f"{server}/infer/{CARDIAC}", params={"output": "image"}, files=file, timeout=120)

    np.testing.assert_array_equal(read_mask(upload(image)), own_mask("heart1"))
    refused = upload(image[:500])
    assert refused.status_code == 400
    assert "cannot be read" in refused.json()["detail"]


def test_what_is_not_there_is_told(server: str, infer: Infer) -> None:
    refused = infer(server, "liver", "heart1")
    assert refused.status_code == 404
    assert refused.json()["detail"].startswith(f"There is no model 'liver'; there are {CARDIAC}, ")
    refused = infer(server, CARDIAC, "heart9")
    assert (refused.status_code, refused.json()["detail"]) == (404, "There is no image 'heart9' among the 5 studies.")
    assert requests.get(f"{server}/info/", timeout=60).status_code == 200


def test_the_datastore_keeps_what_annotators_send(
    server: str, save_label: Callable[..., requests.Response], studies: Path, predicted: Path, tmp_path: Path
) -> None:
    (tmp_path / "label.json").write_text("{}")
    for wrong in (studies / "heart1.nii.gz", tmp_path / "label.json"):
        refused = save_label(server, "heart1", wrong)
        assert refused.status_code == 400, refused.text
    saved = save_label(server, "heart1", predicted / "heart1.nii.gz")
    assert saved.status_code == 200, saved.text
    sent_back = requests.get(f"{server}/datastore/label", params={"label": "heart1", "tag": "final"}, timeout=60)
    assert sent_back.content == (predicted / "heart1.nii.gz").read_bytes()
    assert requests.get(f"{server}/datastore/", timeout=60).json()["completed"] == 1
    for strategy in ("first", "random"):
        sample = requests.post(f"{server}/activelearning/{strategy}", timeout=60).json()
        assert sample["id"] in {"heart2", "frame1", "frame2", "spoilt"}
    assert requests.delete(f"{server}/datastore/label?id=heart1&tag=final", timeout=60).status_code == 200


def test_replaced_weights_are_loaded_anew(
    server: str,
    infer: Infer,
    read_mask: Read,
    own_mask: Own,
    other_bias: Callable[[str, list[float]], AbstractContextManager[None]],
) -> None:
    with other_bias(CARDIAC, [0.0, 0.0, 1000.0, 0.0]):
        assert np.unique(read_mask(infer(server, CARDIAC, "heart1"))).tolist() == [2]
    np.testing.assert_array_equal(read_mask(infer(server, CARDIAC, "heart1")), own_mask("heart1"))


def test_bundles_are_found_by_their_names_and_told_apart(small_bundles: Path, tmp_path: Path) -> None:
    compat.apply()
    from monai_sam2unet.label.find_bundles import find_bundles

    def found(*given: object) -> list[str]:
        return [path.name for path in find_bundles(*given)]

    assert found(small_bundles) == [CARDIAC, POLYP]
    assert found(small_bundles, "polyp, cardiac_mr_segmentation") == [POLYP, CARDIAC]
    assert found(tmp_path, str(small_bundles / CARDIAC)) == [CARDIAC]
    with pytest.raises(ConfigError, match=r"No bundle in .* has weights"):
        find_bundles(tmp_path)
    with pytest.raises(ConfigError, match=r"(?s)has cardiac_mr_segmentation, polyp_segmentation:.*liver: no bundle"):
        find_bundles(small_bundles, "liver,polyp")
    bare = shutil.copytree(small_bundles / CARDIAC, tmp_path / CARDIAC)
    (bare / "models" / "model.pt").unlink()
    with pytest.raises(ConfigError, match=r"cardiac: no weights .*model\.pt\); train it first"):
        find_bundles(tmp_path, "cardiac")


def test_settings_that_no_bundle_has_are_told(small_bundles: Path) -> None:
    compat.apply()
    from monai_sam2unet.label.find_bundles import check_settings

    folders = [small_bundles / CARDIAC, small_bundles / POLYP]
    check_settings(folders, ["encoder_size", "preload"])
    with pytest.raises(ConfigError, match=r"--conf encodersize: no bundle .* Did you mean encoder_size\?"):
        check_settings(folders, ["encodersize"])
