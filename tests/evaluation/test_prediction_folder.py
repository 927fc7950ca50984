# SPDX-License-Identifier: Apache-2.0
"""Tests of finding which map belongs to which mask."""

from __future__ import annotations

import pytest

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.evaluation import find_prediction_cases


def touch(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")
    return folder


def pairs(found):
    return [(c.dataset, c.name, c.prediction.name, c.truth.name) for c in found[0]]


def test_one_set(tmp_path):
    maps = touch(tmp_path / "maps", "b.png", "a.jpg", "notes.txt", ".hidden.png")
    masks = touch(tmp_path / "CAMO", "a.png", "b.tif")
    found = find_prediction_cases(maps, masks)
    assert pairs(found) == [("CAMO", "a.png", "a.jpg", "a.png"), ("CAMO", "b.tif", "b.png", "b.tif")]
    assert found[1] == []


@pytest.mark.parametrize("folder", ["GT", "masks", "Mask", "Ground Truth", "labels"])
def test_one_set_with_its_masks_below(tmp_path, folder):
    maps = touch(tmp_path / "maps", "a.png")
    masks = touch(tmp_path / "CAMO" / folder, "a.png")
    for given in (tmp_path / "CAMO", masks):
        assert pairs(find_prediction_cases(maps, given)) == [("CAMO", "a.png", "a.png", "a.png")]


def test_several_sets_and_their_images(tmp_path):
    for name in ("CAMO", "COD10K"):
        touch(tmp_path / "maps" / name, "a.png", "b.png")
    touch(tmp_path / "truth" / "CAMO" / "GT", "a.png", "b.png")
    touch(tmp_path / "truth" / "CAMO" / "Imgs", "a.jpg")
    touch(tmp_path / "truth" / "COD10K", "a.png", "b.png")
    cases, _ = find_prediction_cases(tmp_path / "maps", tmp_path / "truth")
    assert [(c.dataset, c.name) for c in cases] == [
        ("CAMO", "a.png"), ("CAMO", "b.png"), ("COD10K", "a.png"), ("COD10K", "b.png"),
    ]  # fmt: skip
    assert cases[0].truth == tmp_path / "truth" / "CAMO" / "GT" / "a.png"
    assert [c.picture for c in cases] == [tmp_path / "truth" / "CAMO" / "Imgs" / "a.jpg", None, None, None]


def test_images_of_a_folder_of_their_own(tmp_path):
    touch(tmp_path / "maps" / "A", "1.png")
    touch(tmp_path / "truth" / "A", "1.png")
    photo = touch(tmp_path / "photos" / "A" / "images", "1.jpg") / "1.jpg"
    for given in (tmp_path / "photos", tmp_path / "photos" / "A", photo.parent):
        [case], _ = find_prediction_cases(tmp_path / "maps", tmp_path / "truth", given)
        assert case.picture == photo


def test_what_does_not_pair_is_listed(tmp_path):
    touch(tmp_path / "maps" / "A", "1.png", "2.png")
    touch(tmp_path / "maps" / "B", "1.png")
    touch(tmp_path / "truth" / "A", "1.png", "3.png")
    touch(tmp_path / "truth" / "C", "1.png")
    with pytest.raises(DataError, match="4 files or folders do not pair") as caught:
        find_prediction_cases(tmp_path / "maps", tmp_path / "truth")
    for told in ("maps/A/2.png: no mask", "truth/A/3.png: no map", "maps/B: no folder", "truth/C: no folder"):
        assert told in str(caught.value)
    assert "--allow-unpaired" in str(caught.value)
    cases, unpaired = find_prediction_cases(tmp_path / "maps", tmp_path / "truth", allow_unpaired=True)
    assert [(c.dataset, c.name) for c in cases] == [("A", "1.png")]
    assert len(unpaired) == 4


def test_nothing_pairs(tmp_path):
    maps, masks = touch(tmp_path / "maps", "1.png"), touch(tmp_path / "masks", "2.png")
    with pytest.raises(DataError, match="2 files or folders do not pair") as caught:
        find_prediction_cases(maps, masks, allow_unpaired=True)
    assert "--allow-unpaired" not in str(caught.value)


def test_a_stem_is_there_once(tmp_path):
    maps, masks = touch(tmp_path / "maps", "1.png", "1.jpg"), touch(tmp_path / "masks", "1.png")
    with pytest.raises(DataError, match="same stem"):
        find_prediction_cases(maps, masks, allow_unpaired=True)


def test_folders_that_are_missing_or_empty(tmp_path):
    full, empty = touch(tmp_path / "full", "1.png"), touch(tmp_path / "empty")
    for given, told in (
        ((tmp_path / "none", full), "no folder .*none, where the prediction maps"),
        ((full, tmp_path / "none"), "no folder .*none, where the true masks"),
        ((full, full, tmp_path / "none"), "no folder .*none, where the images"),
        ((empty, full), "neither maps nor folders"),
        ((full, empty), "no masks in"),
    ):
        with pytest.raises(DataError, match=told):
            find_prediction_cases(*given)


def test_folders_beside_maps_do_not_pair(tmp_path):
    maps, masks = touch(tmp_path / "maps", "1.png"), touch(tmp_path / "masks", "1.png")
    touch(maps / "CAMO", "1.png")
    touch(maps / "notes", "read.txt")
    with pytest.raises(DataError, match=r"1 files or folders do not pair(.|\n)*maps/CAMO: beside maps"):
        find_prediction_cases(maps, masks)
    cases, unpaired = find_prediction_cases(maps, masks, allow_unpaired=True)
    assert (len(cases), len(unpaired)) == (1, 1)


def test_a_stray_picture_beside_sets_is_named(tmp_path):
    for name in ("CAMO", "NC4K"):
        touch(tmp_path / "maps" / name, "1.png")
        touch(tmp_path / "truth" / name / "GT", "1.png")
    touch(tmp_path / "maps", "overview.png")
    with pytest.raises(DataError, match=r"maps/overview.png: beside folders of maps \(CAMO, NC4K\).*take away"):
        find_prediction_cases(tmp_path / "maps", tmp_path / "truth")


def test_a_name_for_maps_without_folders(tmp_path):
    maps, masks = touch(tmp_path / "maps", "1.png"), touch(tmp_path / "GT", "1.png")
    [case], _ = find_prediction_cases(maps, masks, name="CAMO")
    assert case.dataset == "CAMO"
    touch(tmp_path / "sets" / "A", "1.png")
    touch(tmp_path / "truth" / "A", "1.png")
    with pytest.raises(ConfigError, match="name 'CAMO' is for maps"):
        find_prediction_cases(tmp_path / "sets", tmp_path / "truth", name="CAMO")
