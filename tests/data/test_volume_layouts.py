# SPDX-License-Identifier: Apache-2.0
"""Tests of the sets of volumes, in the folders and names in which they are distributed."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_sam2unet.data import recognise_volumes
from monai_sam2unet.errors import ConfigError, DataError

#: Of each set: labels of each image by the set's name, and files that are neither.
SETS = {
    "Medical Segmentation Decathlon": (
        {"Tr": {"imagesTr/hippocampus_001.nii.gz": "labelsTr/hippocampus_001.nii.gz"}},
        ["imagesTr/._hippocampus_001.nii.gz", "labelsTr/._hippocampus_001.nii.gz", "dataset.json"],
    ),
    "nnU-Net": (
        {
            "Tr": {"imagesTr/a_1_0000.nii.gz": "labelsTr/a_1.nii.gz", "imagesTr/b_0000.nii": "labelsTr/b.nii.gz"},
            "Ts": {"imagesTs/c_0000.nii.gz": "labelsTs/c.nii.gz"},
        },
        ["dataset.json"],
    ),
    "TotalSegmentator": (
        {
            "data": {
                "s0000/ct.nii.gz": ["s0000/segmentations/liver.nii.gz", "s0000/segmentations/spleen.nii.gz"],
                "s0001/ct.nii.gz": ["s0001/segmentations/liver.nii.gz"],
            }
        },
        ["meta.csv"],
    ),
    "TotalSegmentator, label maps": ({"data": {"s0000/ct.nii.gz": "s0000/segmentations.nii.gz"}}, []),
    "TotalSegmentator MR": ({"data": {"s0000/mri.nii.gz": ["s0000/segmentations/liver.nii.gz"]}}, []),
    "BTCV": (
        {"Training": {"Training/img/img0001.nii.gz": "Training/label/label0001.nii.gz"}},
        ["Training/readme.txt"],
    ),
    "BTCV, one part": ({"data": {"img/img0001.nii.gz": "label/label0001.nii.gz"}}, []),
    "ACDC": (
        {
            "training": {
                f"training/patient00{n}/patient00{n}_frame01.nii.gz": (
                    f"training/patient00{n}/patient00{n}_frame01_gt.nii.gz"
                )
                for n in (1, 2)
            },
            "testing": {
                "testing/patient101/patient101_frame01.nii.gz": "testing/patient101/patient101_frame01_gt.nii.gz"
            },
        },
        ["training/patient001/patient001_4d.nii.gz", "training/patient001/Info.cfg"],
    ),
    "ACDC, one part": (
        {"data": {"patient001/patient001_frame12.nii.gz": "patient001/patient001_frame12_gt.nii.gz"}},
        ["patient001/patient001_4d.nii.gz"],
    ),
    "images and labels": ({"data": {"images/x.1.nii.gz": "labels/x.1.nii.gz"}}, ["dataset.json"]),
    "several sets": (
        {"A": {"A/images/x.nii": "A/labels/x.nii.gz"}, "B": {"B/images/x.nii.gz": "B/labels/x.nii.gz"}},
        [],
    ),
}


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.mark.parametrize("name", list(SETS))
def test_layouts(tmp_path, name):
    sets, others = SETS[name]
    root = tmp_path / "data"
    for pairs in sets.values():
        for image, label in pairs.items():
            touch(root, image, *(label if isinstance(label, list) else [label]))
    found = recognise_volumes(touch(root, *others))

    def whole(label):
        return [str(root / one) for one in label] if isinstance(label, list) else str(root / label)

    assert {part: {item["image"]: item["label"] for item in items} for part, items in found.sets.items()} == {
        part: {str(root / image): whole(label) for image, label in pairs.items()} for part, pairs in sets.items()
    }
    assert found.layout == name.partition(",")[0].partition(" MR")[0] or name == "several sets"
    assert (found.unlabelled, found.problems) == ({}, ())


def test_cases_are_called_as_the_set_calls_them(tmp_path):
    touch(tmp_path / "n", "imagesTr/a_1_0000.nii.gz", "labelsTr/a_1.nii.gz")
    touch(tmp_path / "t", "s0003/ct.nii.gz", "s0003/segmentations/liver.nii.gz")
    touch(tmp_path / "b", "img/img0007.nii.gz", "label/label0007.nii.gz")
    for folder, part, stem in (("n", "Tr", "a_1"), ("t", "t", "s0003"), ("b", "b", "0007")):
        assert [item["stem"] for item in recognise_volumes(tmp_path / folder).sets[part]] == [stem]


def test_images_and_labels_without_partner_are_told(tmp_path):
    names = ("imagesTr/a.nii.gz", "labelsTr/a.nii.gz", "imagesTr/b.nii.gz", "labelsTr/c.nii.gz", "imagesTs/d.nii.gz")
    found = recognise_volumes(touch(tmp_path, *names))
    assert [item["stem"] for item in found.sets["Tr"]] == ["a"]
    assert found.unlabelled == {"Tr": [str(tmp_path / names[2])], "Ts": [str(tmp_path / names[4])]}
    assert found.problems == (f"{tmp_path / names[3]}: there is no image of this label",)


def test_further_channels_and_second_files_are_told(tmp_path):
    names = ("imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "labelsTr/a.nii.gz", "imagesTr/a_0000.nii")
    found = recognise_volumes(touch(tmp_path, *names))
    assert len(found.problems) == 2
    assert "is the same volume" in found.problems[0]
    assert "a_0001.nii.gz: a further channel" in found.problems[1]


def test_folders_that_are_named(tmp_path):
    touch(tmp_path, "x/scans/1.nii.gz", "x/truth/1.nii.gz", "y/1.nii", "z/1.nii", "y/2.nii")
    folders = {"X": {"images": "x/scans", "masks": "x/truth"}, "Y": {"images": "y", "masks": "z"}}
    found = recognise_volumes(tmp_path, folders)
    assert {name: len(items) for name, items in found.sets.items()} == {"X": 1, "Y": 1}
    assert found.unlabelled == {"Y": [str(tmp_path / "y" / "2.nii")]}
    with pytest.raises(ConfigError, match="must lie below"):
        recognise_volumes(tmp_path / "x", {"X": {"images": tmp_path / "y", "masks": "truth"}})


def test_folders_without_volumes_are_refused(tmp_path):
    with pytest.raises(DataError, match="There is no folder"):
        recognise_volumes(tmp_path / "none")
    with pytest.raises(DataError, match=r"no volumes(.|\n)*holds:\n  other"):
        recognise_volumes(touch(tmp_path, "other/a.png"))


def test_real_sets(shared_data):
    for name, count in {"acdc": 58, "msd-hippocampus": 40, "totalseg-example": 2, "sct-spine": 2}.items():
        found = recognise_volumes(shared_data / name)
        assert [len(items) for items in found.sets.values()] == [count]
        assert (found.unlabelled, found.problems) == ({}, ())
