# SPDX-License-Identifier: Apache-2.0
"""Tests of the public sets of pictures, in the folders and names in which they are distributed."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_sam2unet.data import PICTURE_LAYOUTS, recognise_pictures
from monai_sam2unet.errors import DataError

#: Of each set a few files as its archive has them: image, its masks; and files that are neither.
SETS = {
    "ISIC 2016": (
        {
            "ISBI2016_ISIC_Part1_Training_Data/ISIC_0000000.jpg": [
                "ISBI2016_ISIC_Part1_Training_GroundTruth/ISIC_0000000_Segmentation.png"
            ]
        },
        ["ISBI2016_ISIC_Part1_Training_GroundTruth/readme.txt"],
    ),
    "ISIC 2017": (
        {
            "ISIC-2017_Training_Data/ISIC_0000000.jpg": [
                "ISIC-2017_Training_Part1_GroundTruth/ISIC_0000000_segmentation.png"
            ],
            "ISIC-2017_Test_v2_Data/ISIC_0012086.jpg": [
                "ISIC-2017_Test_v2_Part1_GroundTruth/ISIC_0012086_segmentation.png"
            ],
        },
        ["ISIC-2017_Training_Data/ISIC_0000000_superpixels.png", "ISIC-2017_Training_Data/metadata.csv"],
    ),
    "ISIC 2018": (
        {
            "ISIC2018_Task1-2_Validation_Input/ISIC_0012255.jpg": [
                "ISIC2018_Task1_Validation_GroundTruth/ISIC_0012255_segmentation.png"
            ]
        },
        ["ISIC2018_Task1-2_Validation_Input/LICENSE.txt"],
    ),
    "BUSI": (
        {
            "benign/benign (4).png": ["benign/benign (4)_mask.png", "benign/benign (4)_mask_1.png"],
            "benign/benign (40).png": ["benign/benign (40)_mask.png"],
            "normal/normal (1).png": ["normal/normal (1)_mask.png"],
        },
        [],
    ),
    "Montgomery": (
        {
            "CXR_png/MCUCXR_0001_0.png": [
                "ManualMask/leftMask/MCUCXR_0001_0.png",
                "ManualMask/rightMask/MCUCXR_0001_0.png",
            ]
        },
        ["ClinicalReadings/MCUCXR_0001_0.txt", "CXR_png/Thumbs.db"],
    ),
    "Shenzhen": ({"CXR_png/CHNCXR_0001_0.png": ["mask/CHNCXR_0001_0_mask.png"]}, []),
    "CHASE_DB1": ({"Image_01L.jpg": ["Image_01L_1stHO.png"]}, ["Image_01L_2ndHO.png"]),
    "DRIVE": (
        {"training/images/21_training.tif": ["training/1st_manual/21_manual1.gif"]},
        ["training/mask/21_training_mask.gif"],
    ),
    "Data Science Bowl 2018": (
        {
            "00071198d059ba7f/images/00071198d059ba7f.png": [
                "00071198d059ba7f/masks/07a9.png",
                "00071198d059ba7f/masks/0e54.png",
            ]
        },
        [],
    ),
    "nnU-Net": (
        {
            "imagesTr/case 1_0000.png": ["labelsTr/case 1.png"],
            "imagesTs/case_2_0000.png": ["labelsTs/case_2.png"],
        },
        ["dataset.json", "splits_final.json"],
    ),
}


def unpack(folder: Path, name: str) -> Path:
    cases, others = SETS[name]
    for path in [*cases, *(mask for masks in cases.values() for mask in masks), *others]:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    return folder


def test_every_layout_is_tried():
    assert [layout.name for layout in PICTURE_LAYOUTS] == list(SETS)


@pytest.mark.parametrize("name", list(SETS))
def test_each_image_has_its_masks(tmp_path, name):
    found = recognise_pictures(unpack(tmp_path / "data [1]", name))
    assert found.layout == name
    assert found.unlabelled == {}
    items = [item for own in found.sets.values() for item in own]
    masks = [item["label"] if isinstance(item["label"], list) else [item["label"]] for item in items]
    root = tmp_path / "data [1]"
    assert {item["image"]: own for item, own in zip(items, masks, strict=True)} == {
        str(root / image): [str(root / mask) for mask in own] for image, own in SETS[name][0].items()
    }


@pytest.mark.parametrize(
    ("name", "sets"),
    [
        ("ISIC 2017", ["Test_v2", "Training"]),
        ("BUSI", ["benign", "normal"]),
        ("DRIVE", ["training"]),
        ("CHASE_DB1", ["CHASE_DB1"]),
        ("nnU-Net", ["Tr", "Ts"]),
    ],
)
def test_names_of_sets(tmp_path, name, sets):
    assert list(recognise_pictures(unpack(tmp_path, name)).sets) == sets


def test_pictures_of_several_channels_are_refused(tmp_path):
    unpack(tmp_path, "nnU-Net")
    (tmp_path / "imagesTr" / "case 1_0001.png").touch()
    with pytest.raises(DataError, match=r"further channels of pictures[^/]*\n.*case 1_0001\.png"):
        recognise_pictures(tmp_path)


def test_images_without_mask_are_told(tmp_path):
    unpack(tmp_path, "Shenzhen")
    (tmp_path / "CXR_png" / "CHNCXR_0002_0.png").touch()
    found = recognise_pictures(tmp_path)
    assert found.unlabelled == {"Shenzhen": [str(tmp_path / "CXR_png" / "CHNCXR_0002_0.png")]}
    assert len(found.sets["Shenzhen"]) == 1


def test_the_layout_that_leaves_fewest_images_is_taken(tmp_path):
    """Montgomery's images have the folder of Shenzhen's."""
    unpack(unpack(tmp_path, "Shenzhen"), "Montgomery")
    for number in range(2, 4):
        (tmp_path / "CXR_png" / f"MCUCXR_000{number}_0.png").touch()
        (tmp_path / "ManualMask" / "leftMask" / f"MCUCXR_000{number}_0.png").touch()
    assert recognise_pictures(tmp_path).layout == "Montgomery"


@pytest.mark.parametrize("paths", [[], ["images/1.png", "masks/1.png"], ["TrainDataset/images/1.png"], ["1.jpg"]])
def test_other_folders_are_none(tmp_path, paths):
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    assert recognise_pictures(tmp_path) is None
    assert recognise_pictures(tmp_path / "nowhere") is None


def test_real_sets_with_images_and_masks_are_none(shared_data):
    for name in ("busi", "polyp", "isic2017", "dsb2018"):
        assert recognise_pictures(shared_data / name) is None
