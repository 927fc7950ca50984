# SPDX-License-Identifier: Apache-2.0
"""Tests of public sets as the bundles' data: parts, masks in several files, images without one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_sam2unet.bundle import evaluation_datalist, training_datalist
from monai_sam2unet.bundle.labelled_cases import sets_of_part
from monai_sam2unet.errors import DataError
from monai_sam2unet.transforms import Preset


def write(path: Path, rows: slice | None = None, size=(12, 16)) -> None:
    """An image, or with rows a mask of them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((*size, 3), 90, np.uint8)
    if rows is not None:
        pixels = np.zeros(size, np.uint8)
        pixels[rows] = 255
    Image.fromarray(pixels).save(path)


@pytest.fixture
def busi(tmp_path):
    for number, parts in enumerate([(slice(0, 2),), (slice(0, 2), slice(6, 9)), (slice(0, 0),)]):
        write(tmp_path / "benign" / f"benign ({number}).png")
        for part, rows in enumerate(parts):
            write(tmp_path / "benign" / f"benign ({number})_mask{f'_{part}' if part else ''}.png", rows)
    return tmp_path


@pytest.fixture
def isic(tmp_path):
    for part, count in (("Training", 3), ("Test_v2", 2)):
        for number in range(count):
            write(tmp_path / f"ISIC-2017_{part}_Data" / f"ISIC_{part}{number}.jpg")
            write(
                tmp_path / f"ISIC-2017_{part}_Part1_GroundTruth" / f"ISIC_{part}{number}_segmentation.png", slice(2, 5)
            )
    return tmp_path


def names(items):
    return sorted(Path(item["image"]).name for item in items)


def test_parts_of_a_mask_are_one(busi):
    found = training_datalist(busi, 0.4)
    items = sorted(found["training"] + found["validation"], key=lambda item: item["image"])
    transform = Preset("ultrasound", (12, 16), mask_threshold=127.5).training()
    labels = [transform(item)["label"][0, :, 0].tolist() for item in items]
    rows = [[0, 1], [0, 1, 6, 7, 8], []]
    assert labels == [[float(row in own) for row in range(12)] for own in rows]
    assert {item["dataset"] for item in items} == {"benign"}


def test_folders_are_parts_by_their_names(tmp_path):
    for part, count in (("train", 3), ("val", 2), ("test", 1)):
        for number in range(count):
            write(tmp_path / part / "images" / f"{part}{number}.png")
            write(tmp_path / part / "masks" / f"{part}{number}.png", slice(2, 5))
    found = training_datalist(tmp_path)
    assert names(found["training"] + found["validation"]) == [f"train{n}.png" for n in range(3)]
    assert names(evaluation_datalist(tmp_path)) == ["test0.png"]
    assert names(evaluation_datalist(tmp_path, ["val"])) == ["val0.png", "val1.png"]
    (tmp_path / "test").rename(tmp_path / "TestDataset")
    (tmp_path / "train").rename(tmp_path / "TrainDataset")
    assert names(evaluation_datalist(tmp_path)) == ["test0.png"]


def test_training_takes_its_sets_and_evaluation_its_own(isic):
    found = training_datalist(isic)
    assert names(found["training"] + found["validation"]) == [f"ISIC_Training{n}.jpg" for n in range(3)]
    assert names(evaluation_datalist(isic)) == ["ISIC_Test_v20.jpg", "ISIC_Test_v21.jpg"]
    assert len(evaluation_datalist(isic, sets=["Training"])) == 3
    with pytest.raises(DataError, match=r"no set Other in .*It has: Test_v2, Training"):
        evaluation_datalist(isic, sets=["Other"])


def test_a_split_of_a_public_set(busi, tmp_path):
    (tmp_path / "split.txt").write_text("benign (2)\nbenign (0).png\n")
    found = training_datalist(busi, split_file=tmp_path / "split.txt")
    assert names(found["training"] + found["validation"]) == ["benign (0).png", "benign (2).png"]
    (tmp_path / "split.txt").write_text("benign (2)\nbenign (7)\n")
    with pytest.raises(DataError, match=r"(?s)none of the sets.*benign \(7\)"):
        training_datalist(busi, split_file=tmp_path / "split.txt")


def test_images_without_mask(tmp_path, caplog):
    for number in range(3):
        write(tmp_path / "CXR_png" / f"CHNCXR_{number}.png")
    for number in range(2):
        write(tmp_path / "mask" / f"CHNCXR_{number}_mask.png", slice(3, 6))
    with pytest.raises(DataError, match=r"(?s)1 images of Shenzhen have no mask.*--allow_unlabelled.*CHNCXR_2.png"):
        evaluation_datalist(tmp_path)
    with caplog.at_level("INFO"):
        assert len(evaluation_datalist(tmp_path, allow_unlabelled=True)) == 2
    assert "1 images without a mask are left out" in caplog.text
    (tmp_path / "split.txt").write_text("CHNCXR_0\nCHNCXR_1\n")
    assert len(evaluation_datalist(tmp_path, split_file=tmp_path / "split.txt")) == 2


def test_what_is_wrong_with_parts(busi):
    write(busi / "benign" / "benign (1)_mask_1.png", slice(0, 1), size=(4, 4))
    with pytest.raises(DataError, match=r"benign \(1\)_mask.png: the 2 parts of this mask differ in size"):
        training_datalist(busi)
    (busi / "benign" / "benign (1)_mask_1.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"benign \(1\)_mask_1.png: cannot be read"):
        training_datalist(busi)


@pytest.mark.parametrize(
    ("found", "train", "test"),
    [
        (["siteA", "siteB", "test"], ["siteA", "siteB"], ["test"]),
        (["TrainDataset", "TestDataset"], ["TrainDataset"], ["TestDataset"]),
        (["Tr", "Ts"], ["Tr"], ["Ts"]),
        (["testis", "kidney"], ["testis", "kidney"], ["testis", "kidney"]),
        (["test"], ["test"], ["test"]),
    ],
)
def test_sets_of_the_other_part_are_not_taken(found, train, test):
    assert sets_of_part(found, "TrainDataset") == train
    assert sets_of_part(found, "TestDataset") == test
