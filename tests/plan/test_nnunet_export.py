# SPDX-License-Identifier: Apache-2.0
"""Tests of datasets for nnU-Net v2: they keep the rules of its documentation, and hold the same data and folds."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from skimage import io

from monai_sam2unet.bundle import evaluation_datalist, training_datalist
from monai_sam2unet.data import recognise_pictures, recognise_volumes
from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.plan.nnunet_dataset import case_identifiers
from monai_sam2unet.plan.nnunet_export import export_pictures, export_volumes
from monai_sam2unet.plan.picture_survey import survey_pictures
from monai_sam2unet.plan.volume_survey import survey_volumes


def read_picture(path: Path) -> np.ndarray:
    """(C, H, W), as nnU-Net's NaturalImage2DIO reads it."""
    pixels = io.imread(path)
    assert pixels.ndim == 2 or pixels.shape[2] in (3, 4)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def read_volume(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)[None]


def check_rules(dataset: Path) -> dict:
    """The rules of dataset_format.md and manual_data_splits.md, as nnU-Net checks them; gives dataset.json."""
    assert re.fullmatch(r"Dataset\d{3}_\w+", dataset.name)
    assert {path.name for path in dataset.iterdir()} == {
        "dataset.json",
        "imagesTr",
        "labelsTr",
        "splits_final.json",
    }
    content = json.loads((dataset / "dataset.json").read_text())
    assert content.keys() >= {"channel_names", "labels", "numTraining", "file_ending"}
    ending, labels = content["file_ending"], content["labels"]
    assert list(content["channel_names"]) == [str(n) for n in range(len(content["channel_names"]))]
    assert labels["background"] == 0
    assert list(labels.values()) == list(range(len(labels)))
    images = {path.name for path in (dataset / "imagesTr").iterdir()}
    cases = {name.removesuffix(f"_0000{ending}") for name in images}
    assert images == {f"{case}_0000{ending}" for case in cases}
    assert len(cases) == content["numTraining"]
    assert {path.name for path in (dataset / "labelsTr").iterdir()} == {f"{case}{ending}" for case in cases}
    read = read_picture if ending == ".png" else read_volume
    for case in cases:
        image = read(dataset / "imagesTr" / f"{case}_0000{ending}")
        label = read(dataset / "labelsTr" / f"{case}{ending}")
        # Of pictures nnU-Net counts the channels of the one file; of volumes the files.
        assert len(image) == len(content["channel_names"])
        assert image.shape[1:] == label.shape[1:]
        assert set(np.unique(label)) <= set(labels.values())
        assert np.issubdtype(label.dtype, np.integer)
    splits = json.loads((dataset / "splits_final.json").read_text())
    assert len(splits) == 5
    assert all(split.keys() == {"train", "val"} for split in splits)
    assert all(sorted(split["train"] + split["val"]) == sorted(cases) for split in splits)
    assert sorted(case for split in splits for case in split["val"]) == sorted(cases)
    return content


def save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def test_coloured_pictures_and_their_folds(phantoms: Path, tmp_path: Path):
    dataset = export_pictures(survey_pictures(phantoms, workers=1), phantoms, tmp_path / "raw", marked="polyp")
    assert dataset.name == f"Dataset501_{phantoms.name}"
    content = check_rules(dataset)
    assert content["channel_names"] == {"0": "R", "1": "G", "2": "B"}
    assert content["labels"] == {"background": 0, "polyp": 1}
    assert content["numTraining"] == 12
    for item in training_datalist(phantoms)["training"]:
        name = Path(item["image"]).stem
        written = read_picture(dataset / "imagesTr" / f"{name}_0000.png")
        assert np.array_equal(written, read_picture(Path(item["image"]))[:3])
        mask = np.asarray(Image.open(item["label"]).convert("L")) >= 128
        assert np.array_equal(read_picture(dataset / "labelsTr" / f"{name}.png")[0], mask)
    splits = json.loads((dataset / "splits_final.json").read_text())
    for fold, split in enumerate(splits):
        ours = evaluation_datalist(phantoms, fold=fold)
        assert split["val"] == sorted(Path(item["image"]).stem for item in ours)


@pytest.mark.parametrize("bits", [8, 16])
def test_gray_pictures_with_classes_and_patients(tmp_path: Path, bits: int):
    generator = np.random.default_rng(0)
    for number in range(12):
        image = generator.integers(0, 2**bits, (20, 30)).astype(np.uint8 if bits == 8 else np.uint16)
        mask = generator.integers(0, 3, (20, 30)).astype(np.uint8)
        save(image, tmp_path / "data" / "images" / f"p{number // 2} ({number}).png")
        save(mask, tmp_path / "data" / "masks" / f"p{number // 2} ({number}).png")
    data = tmp_path / "data"
    survey = survey_pictures(data, workers=1)
    dataset = export_pictures(survey, data, tmp_path / "raw", "xray", class_names=["lung", "heart"], group_pattern="p.")
    content = check_rules(dataset)
    assert content["channel_names"] == {"0": "xray"}
    assert content["labels"] == {"background": 0, "lung": 1, "heart": 2}
    for kind, ending in (("images", "_0000.png"), ("masks", ".png")):
        source = read_picture(data / kind / "p0 (1).png")
        folder = dataset / ("imagesTr" if kind == "images" else "labelsTr")
        assert np.array_equal(read_picture(folder / f"p0_1{ending}"), source)
    for split in json.loads((dataset / "splits_final.json").read_text()):
        assert not {name[:2] for name in split["train"]} & {name[:2] for name in split["val"]}


def test_the_way_back(phantoms: Path, tmp_path: Path):
    dataset = export_pictures(survey_pictures(phantoms, workers=1), phantoms, tmp_path / "raw")
    found = recognise_pictures(dataset)
    assert (found.layout, list(found.sets)) == ("nnU-Net", ["Tr"])
    survey = survey_pictures(dataset, workers=1)
    assert (survey.problems, survey.mask_threshold, len(survey.cases)) == ([], 0.5, 12)
    for fold, split in enumerate(json.loads((dataset / "splits_final.json").read_text())):
        ours = evaluation_datalist(dataset, mask_threshold=0.5, fold=fold)
        assert split["val"] == sorted(Path(item["image"]).stem.removesuffix("_0000") for item in ours)
    again = export_pictures(survey, dataset, tmp_path / "raw2")
    for kind in ("imagesTr", "labelsTr"):
        for path in (dataset / kind).iterdir():
            assert np.array_equal(read_picture(path), read_picture(again / kind / path.name))
    assert (dataset / "splits_final.json").read_text() == (again / "splits_final.json").read_text()


def test_volumes_with_other_numbers(heart_volumes: Path, tmp_path: Path):
    """Their labels hold 1, 2 and 3; here these are 4, 7 and 9."""
    data, numbers = tmp_path / "data", np.array([0, 4, 7, 9], np.uint8)
    shutil.copytree(heart_volumes, data)
    for path in (data / "labels").iterdir():
        volume = nib.load(path)
        nib.save(nib.Nifti1Image(numbers[np.asarray(volume.dataobj)], volume.affine), path)
    dataset = export_volumes(survey_volumes(data, workers=1), data, tmp_path, class_names=["RV", "MYO", "LV"])
    content = check_rules(dataset)
    assert content["channel_names"] == {"0": "MR"}
    assert content["labels"] == {"background": 0, "RV": 1, "MYO": 2, "LV": 3}
    for path in (heart_volumes / "images").iterdir():
        name = path.name.removesuffix(".nii.gz")
        assert (dataset / "imagesTr" / f"{name}_0000.nii.gz").read_bytes() == path.read_bytes()
        written = nib.load(dataset / "labelsTr" / path.name)
        assert np.array_equal(written.affine, nib.load(path).affine)
        truth = np.asarray(nib.load(heart_volumes / "labels" / path.name).dataobj)
        assert np.array_equal(np.asarray(written.dataobj), truth)
    assert recognise_volumes(dataset).layout == "nnU-Net"


def test_a_label_whose_axes_run_otherwise_is_turned(heart_volumes: Path, tmp_path: Path):
    data = tmp_path / "data"
    for kind in ("images", "labels"):
        (data / kind).mkdir(parents=True)
        for path in (heart_volumes / kind).iterdir():
            volume = nib.load(path)
            if kind == "labels":
                volume = volume.as_reoriented(np.array([[1, 1], [0, -1], [2, 1]]))
            nib.save(volume, data / kind / path.name.removesuffix(".gz"))
    dataset = export_volumes(survey_volumes(data, workers=1), data, tmp_path, "ct", ["RV", "MYO", "LV"])
    assert check_rules(dataset)["channel_names"] == {"0": "CT"}
    name = "patient001_frame01.nii.gz"
    truth = np.asarray(nib.load(heart_volumes / "labels" / name).dataobj)
    assert np.array_equal(read_volume(dataset / "labelsTr" / name)[0], truth)


def test_what_cannot_be_exported_is_told_and_nothing_written(heart_volumes: Path, tmp_path: Path):
    survey = survey_volumes(heart_volumes, workers=1)
    with pytest.raises(ConfigError, match="names 2 classes; the labels hold 3"):
        export_volumes(survey, heart_volumes, tmp_path, "mr", ["RV", "MYO"])
    with pytest.raises(DataError, match="4 patients are too few for 5 folds"):
        export_volumes(survey, heart_volumes, tmp_path, group_pattern="patient[0-9]+")
    for name in ("ignore", "MYO"):
        with pytest.raises(ConfigError, match="different names"):
            export_volumes(survey, heart_volumes, tmp_path, "mr", ["RV", "MYO", name])
    with pytest.raises(ConfigError, match="must be ct or mr"):
        export_volumes(survey, heart_volumes, tmp_path, "xray")
    with pytest.raises(DataError, match=r"1 problems.*\n.*torn"):
        export_volumes(replace(survey, problems=["a.nii.gz: torn"]), heart_volumes, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_numbers_that_are_taken_and_names_that_exist(phantoms: Path, tmp_path: Path):
    (tmp_path / "Dataset501_Other").mkdir()
    survey = survey_pictures(phantoms, workers=1)
    assert export_pictures(survey, phantoms, tmp_path).name == f"Dataset502_{phantoms.name}"
    with pytest.raises(ConfigError, match=f"Dataset502_{phantoms.name} exists"):
        export_pictures(survey, phantoms, tmp_path)


def test_identifiers():
    assert case_identifiers(["a/CASE_0000.nii.gz", "a/B_0000.nii.gz"]) == ["CASE", "B"]
    assert case_identifiers(["s1/ct.nii.gz", "s2/ct.nii.gz"]) == ["s1_ct", "s2_ct"]
    assert case_identifiers(["case.12.jpg", "case.13.jpg"]) == ["case.12", "case.13"]
    with pytest.raises(DataError, match=r"would have one name; rename some:\n  a \(1\)\.png\n  a_1\.jpg"):
        case_identifiers(["a (1).png", "b.png", "a_1.jpg"])
