# SPDX-License-Identifier: Apache-2.0
"""Clicks and scribbles: a real server's masks follow them, on pictures and volumes, and mistakes are told."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import requests
from PIL import Image
from scipy import ndimage

pytestmark = pytest.mark.label
Infer = Callable[..., requests.Response]
Read = Callable[[requests.Response], np.ndarray]
Own = Callable[[str], np.ndarray]
CARDIAC, POLYP = "cardiac_mr_segmentation", "polyp_segmentation"


@pytest.fixture
def server(folder_server: str) -> str:
    return folder_server


def deepest(mask: np.ndarray) -> tuple[int, ...]:
    """The pixel that is farthest from all that is not in the mask."""
    depth = ndimage.distance_transform_edt(mask)
    return tuple(int(index) for index in np.unravel_index(depth.argmax(), mask.shape))


def scribbled(server: str, model: str, image: str, label: Path, **params: Any) -> requests.Response:
    return requests.post(
        f"{server}/infer/{model}_scribbles", params={"image": image, "output": "image"},
        data={"params": json.dumps(params)}, files={"label": (label.name, label.read_bytes())}, timeout=120,
    )  # fmt: skip


def test_viewers_find_models_for_clicks_and_for_scribbles(server: str) -> None:
    """3D Slicer lists them by their type; it sends clicks of the background only if that is a label."""
    models = requests.get(f"{server}/info/", timeout=60).json()["models"]
    assert {name: (model["type"], model["dimension"], model["labels"]) for name, model in models.items()} == {
        CARDIAC: ("segmentation", 3, {"RV": 1, "MYO": 2, "LV": 3}),
        f"{CARDIAC}_edit": ("deepedit", 3, {"RV": 1, "MYO": 2, "LV": 3, "background": 0}),
        f"{CARDIAC}_scribbles": ("scribbles", 3, {"RV": 1, "MYO": 2, "LV": 3}),
        POLYP: ("segmentation", 2, {"polyp": 1}),
        f"{POLYP}_edit": ("deepedit", 2, {"polyp": 1, "background": 0}),
        f"{POLYP}_scribbles": ("scribbles", 2, {"polyp": 1}),
    }


@pytest.mark.parametrize("clicks", [{}, {"polyp": [], "background": []}, {"foreground": "[]", "label": "polyp"}])
def test_without_clicks_a_picture_has_the_bundles_mask(
    server: str, infer: Infer, read_mask: Read, own_mask: Own, clicks: dict[str, Any]
) -> None:
    mask = read_mask(infer(server, f"{POLYP}_edit", "frame1", **clicks))
    np.testing.assert_array_equal(mask, own_mask("frame1"))
    assert mask.dtype == np.uint8


def test_without_clicks_a_volume_has_the_bundles_mask(
    server: str, infer: Infer, read_mask: Read, own_mask: Own, studies: Path
) -> None:
    for _ in ("computed", "known"):
        answer = infer(server, f"{CARDIAC}_edit", "heart1", RV=[], MYO=[], LV=[], background=[])
        np.testing.assert_array_equal(read_mask(answer), own_mask("heart1"))
        written = nib.Nifti1Image.from_bytes(gzip.decompress(answer.content))
        np.testing.assert_allclose(written.affine, nib.load(studies / "heart1.nii.gz").affine, atol=1e-5)


@pytest.mark.parametrize("point", [lambda row, column: [column, row], lambda row, column: [column, row, 0]])
def test_clicks_include_and_exclude_pixels_of_a_picture(
    server: str, infer: Infer, read_mask: Read, own_mask: Own, point: Callable[[int, int], list[int]]
) -> None:
    """Viewers count columns first; the pictures are not square."""
    own = own_mask("frame2")
    missed, false = deepest(own == 0), deepest(own == 1)
    with_both = {"polyp": [point(*missed)], "background": [point(*false)]}
    mask = read_mask(infer(server, f"{POLYP}_edit", "frame2", **with_both))
    assert (mask[missed], mask[false]) == (1, 0)
    as_deepgrow = {"foreground": [point(*missed)], "background": [point(*false)], "label": "polyp"}
    np.testing.assert_array_equal(read_mask(infer(server, f"{POLYP}_edit", "frame2", **as_deepgrow)), mask)
    only_included = read_mask(infer(server, f"{POLYP}_edit", "frame2", polyp=[point(*missed)]))
    assert only_included[missed] == 1
    assert ((only_included == 1) >= (own == 1)).all()


def test_clicks_of_a_volume_belong_to_a_label(server: str, infer: Infer, read_mask: Read, own_mask: Own) -> None:
    own = own_mask("heart2")
    other, object_ = deepest(own != 3), deepest(own == 2)
    clicks = {"LV": [list(other)], "RV": [], "MYO": [], "background": [list(object_)], "label": "LV"}
    mask = read_mask(infer(server, f"{CARDIAC}_edit", "heart2", **clicks))
    assert (mask[other], mask[object_]) == (3, 0)
    changed = mask[mask != own]
    assert set(changed.tolist()) <= {3, 0}
    as_text = {name: json.dumps(points) for name, points in clicks.items() if name != "label"}
    np.testing.assert_array_equal(read_mask(infer(server, f"{CARDIAC}_edit", "heart2", **as_text)), mask)


def test_scribbles_of_a_picture(server: str, read_mask: Read, own_mask: Own, tmp_path: Path) -> None:
    """With the numbers that MONAI Label gives them by default: two and one more than there are labels."""
    own = own_mask("frame1")
    missed, false = deepest(own == 0), deepest(own == 1)
    drawn = own.copy()
    drawn[missed[0], missed[1] - 2 : missed[1] + 3], drawn[false[0] - 2 : false[0] + 3, false[1]] = 3, 2
    Image.fromarray(drawn).save(tmp_path / "scribbles.png")
    mask = read_mask(scribbled(server, POLYP, "frame1", tmp_path / "scribbles.png"))
    assert mask[drawn == 3].all()
    assert not mask[drawn == 2].any()
    Image.fromarray(own).save(tmp_path / "none.png")
    np.testing.assert_array_equal(read_mask(scribbled(server, POLYP, "frame1", tmp_path / "none.png")), own)


def test_scribbles_of_a_volume_are_for_one_label(
    server: str, read_mask: Read, own_mask: Own, studies: Path, tmp_path: Path
) -> None:
    """As 3D Slicer sends them: it takes that label only, as 1; outside of a box there is nothing."""
    own = own_mask("heart1")
    missed, false = deepest(own != 3), deepest(own == 3)
    drawn = own.copy()
    drawn[missed], drawn[false] = 9, 8
    affine = nib.load(studies / "heart1.nii.gz").affine
    nib.save(nib.Nifti1Image(drawn, affine), tmp_path / "scribbles.nii.gz")
    info = [{"name": "background_scribbles", "id": 8}, {"name": "foreground_scribbles", "id": 9}]
    asked: dict[str, Any] = {"selected_label_name": "LV", "label_info": info}
    mask = read_mask(scribbled(server, CARDIAC, "heart1", tmp_path / "scribbles.nii.gz", **asked, roi=[]))
    assert (mask[missed], mask[false]) == (1, 0)
    assert set(np.unique(mask).tolist()) <= {0, 1}
    roi = [missed[0] + 1, missed[0], 0, 20, 0, 6]
    cut = read_mask(scribbled(server, CARDIAC, "heart1", tmp_path / "scribbles.nii.gz", **asked, roi=roi))
    inside = np.zeros(mask.shape, bool)
    inside[missed[0]] = True
    np.testing.assert_array_equal(cut, np.where(inside, mask, 0))
    # What is kept has the model's ids.
    saved = {**asked, "save_label": True, "label_tag": "original"}
    kept = read_mask(scribbled(server, CARDIAC, "heart1", tmp_path / "scribbles.nii.gz", **saved))
    np.testing.assert_array_equal(kept, 3 * mask)
    label = requests.get(f"{server}/datastore/label", params={"label": "heart1", "tag": "original"}, timeout=60)
    np.testing.assert_array_equal(read_mask(label), kept)
    assert requests.delete(f"{server}/datastore/label?id=heart1&tag=original", timeout=60).status_code == 200


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"polyp": [[104, 0, 0]]}, r"lies outside of the image, which has 104 x 72 x 1 pixels (column, row, 0)"),
        ({"polyp": [[3, -1]]}, "outside of the image"),
        ({"polyp": [[3, 4, 1]]}, "outside of the image"),
        ({"liver": [[3, 4, 0]]}, "There is no label 'liver'; there are polyp, background."),
        ({"polyp": "[[3, 4"}, "The clicks of 'polyp' are no JSON"),
        ({"polyp": [3, 4, 0]}, "must be a list of points"),
        ({"polyp": [[3, "4", 0]]}, "must be a list of points"),
        ({"polyp": [[3, 4, 0]], "background": [[3, 4, 0]]}, "contradict each other at pixel [4, 3]"),
    ],
)
def test_wrong_clicks_are_told(server: str, infer: Infer, params: dict[str, Any], told: str) -> None:
    refused = infer(server, f"{POLYP}_edit", "frame1", **params)
    assert refused.status_code == 400, refused.text
    assert told in refused.json()["detail"]


def test_other_mistakes_are_told(server: str, infer: Infer, own_mask: Own, studies: Path, tmp_path: Path) -> None:
    url, image = f"{server}/infer/{POLYP}_edit", {"image": "frame1"}
    refused = requests.post(url, params=image, data={"params": '{"polyp": [[3,'}, timeout=60)
    assert (refused.status_code, "params is no JSON" in refused.json()["detail"]) == (400, True)
    refused = infer(server, f"{CARDIAC}_edit", "heart1", foreground=[[3, 4, 0]])
    assert (refused.status_code, "need the label that is meant" in refused.json()["detail"]) == (400, True)
    refused = infer(server, f"{POLYP}_scribbles", "frame1")
    assert (refused.status_code, "come as a label image" in refused.json()["detail"]) == (400, True)
    Image.fromarray(own_mask("frame1")[:-1]).save(tmp_path / "small.png")
    refused = scribbled(server, POLYP, "frame1", tmp_path / "small.png")
    assert (refused.status_code, "(1, 71, 104)" in refused.json()["detail"]) == (400, True)
    refused = scribbled(server, CARDIAC, "heart1", studies / "heart1.nii.gz", selected_label_name="liver")
    assert (refused.status_code, "must be one of RV, MYO, LV" in refused.json()["detail"]) == (400, True)


def test_further_clicks_do_not_run_the_network(
    server: str,
    infer: Infer,
    read_mask: Read,
    other_bias: Callable[[str, list[float]], AbstractContextManager[None]],
) -> None:
    """New weights are taken at the next click; until then the network's time is spent once."""
    clicks = {"LV": [[3, 4, 2]]}
    assert infer(server, f"{CARDIAC}_edit", "heart1", **clicks).status_code == 200
    seconds = []
    for column in (10, 11, 12):  # the quickest: other tests take the same cores
        again = infer(server, f"{CARDIAC}_edit", "heart1", "json", **clicks, background=[[12, column, 3]]).json()
        seconds.append(again["latencies"]["infer"])
    assert min(seconds) < 0.05
    with other_bias(CARDIAC, [0.0, 0.0, 1000.0, 0.0]):
        mask = read_mask(infer(server, f"{CARDIAC}_edit", "heart1", **clicks))
        assert mask[3, 4, 2] == 3
        assert np.unique(read_mask(infer(server, f"{CARDIAC}_edit", "heart1"))).tolist() == [2]
