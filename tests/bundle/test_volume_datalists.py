# SPDX-License-Identifier: Apache-2.0
"""Tests of the lists of volumes that the bundles' configs ask for, on real files, and of the check of all of them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import CacheDataset, DataLoader
from monai.transforms import RandFlipd

from monai_sam2unet.bundle import volume_evaluation_datalist, volume_slices, volume_training_datalist
from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.transforms import LabelClasses, Preset

PATIENT = r"patient(\d+)"


@pytest.fixture
def preset():
    return Preset("mr", 32, plane=2, label_classes=LabelClasses(["RV", "MYO", "LV"]))


@pytest.fixture
def copied(heart_volumes, tmp_path):
    return Path(shutil.copytree(heart_volumes, tmp_path / "data"))


def names(items):
    return sorted(Path(item["image"]).name.removesuffix(".nii.gz") for item in items)


def patients(items):
    return {name.partition("_")[0] for name in names(items)}


# ---- training and evaluation


def test_parts_share_no_patient(heart_volumes, preset):
    found = volume_training_datalist(heart_volumes, preset, val_fraction=0.25, group_pattern=PATIENT)
    assert [len(found[part]) for part in ("training", "validation")] == [6, 2]
    assert not patients(found["training"]) & patients(found["validation"])
    for item in [*found["training"], *found["validation"]]:
        assert Path(item["label"]) == heart_volumes / "labels" / Path(item["image"]).name
        assert (item["dataset"], item["filename_or_obj"]) == (heart_volumes.name, item["image"])


def test_a_fold_is_measured_and_not_trained_on(heart_volumes, preset):
    options = {"fold": 1, "num_folds": 4, "group_pattern": PATIENT}
    found = volume_training_datalist(heart_volumes, preset, **options)
    own = volume_evaluation_datalist(heart_volumes, preset, **options)
    assert len(own) == 2
    assert not patients(own) & patients([*found["training"], *found["validation"]])


def test_sets_of_each_part(heart_volumes, preset, tmp_path):
    for part, name in (("Tr", "patient001_frame01"), ("Tr", "patient002_frame01"), ("Ts", "patient003_frame01")):
        for kind in ("images", "labels"):
            (tmp_path / f"{kind}{part}").mkdir(exist_ok=True)
            suffix = "_0000" if kind == "images" else ""
            shutil.copy(heart_volumes / kind / f"{name}.nii.gz", tmp_path / f"{kind}{part}" / f"{name}{suffix}.nii.gz")
    found = volume_training_datalist(tmp_path, preset)
    assert patients([*found["training"], *found["validation"]]) == {"patient001", "patient002"}
    assert patients(volume_evaluation_datalist(tmp_path, preset)) == {"patient003"}
    assert len(volume_evaluation_datalist(tmp_path, preset, sets=["Tr"])) == 2
    with pytest.raises(DataError, match=r"no set Tx in .* It has: Tr, Ts"):
        volume_evaluation_datalist(tmp_path, preset, sets=["Tx"])


def test_only_chosen_cases_are_read(copied, preset, tmp_path):
    (copied / "images" / "patient001_frame01.nii.gz").write_bytes(b"no image")
    (tmp_path / "split.txt").write_text("patient002_frame01\npatient003_frame02.nii.gz\n")
    found = volume_training_datalist(copied, preset, split_file=tmp_path / "split.txt")
    assert names([*found["training"], *found["validation"]]) == ["patient002_frame01", "patient003_frame02"]
    (tmp_path / "split.txt").write_text("patient009\n")
    with pytest.raises(DataError, match=r"none of the sets:\n  patient009"):
        volume_training_datalist(copied, preset, split_file=tmp_path / "split.txt")


def test_some_cases_only(heart_volumes, preset):
    found = volume_training_datalist(heart_volumes, preset, max_cases=3)
    assert [len(found[part]) for part in ("training", "validation")] == [2, 1]
    with pytest.raises(ConfigError, match="max_cases"):
        volume_training_datalist(heart_volumes, preset, max_cases=1)


# ---- the check


def test_all_problems_are_told_at_once(copied, preset):
    def rewrite(kind, number, change, affine=None):
        path = copied / kind / f"patient00{number}_frame01.nii.gz"
        file = nib.load(path)
        nib.save(nib.Nifti1Image(change(np.asarray(file.dataobj)), file.affine if affine is None else affine), path)

    moved = np.diag([1.5, 2.0, 8.0, 1.0])
    moved[:3, 3] = (-10, 5, 4)
    rewrite("labels", 1, lambda x: x[:, :, :-1])
    rewrite("labels", 2, lambda x: x * 2, moved)
    rewrite("labels", 3, lambda x: x * 0.5)
    (copied / "labels" / "patient004_frame01.nii.gz").write_bytes(b"no label")
    (copied / "labels" / "patient001_frame02.nii.gz").unlink()
    (copied / "images" / "patient002_frame02.nii.gz").unlink()
    file = nib.load(copied / "images" / "patient003_frame02.nii.gz")
    file.set_sform(file.affine, code=0)
    file.set_qform(file.affine, code=0)
    nib.save(
        nib.Nifti1Image(np.asarray(file.dataobj), None, file.header), copied / "images" / "patient003_frame02.nii.gz"
    )
    with pytest.raises(DataError) as error:
        volume_training_datalist(copied, preset)
    text = str(error.value)
    assert text.startswith("8 problems")
    for name, told in (
        ("labels/patient002_frame02", "there is no image of this label"),
        ("images/patient001_frame02", "no label"),
        ("labels/patient001_frame01", r"\(24, 20, 6\) and \(24, 20, 5\) voxels"),
        ("labels/patient002_frame01", "a corner lies 1 mm apart"),
        ("labels/patient002_frame01", "holds the numbers 4, 6"),
        ("labels/patient003_frame01", "broken numbers, 0.5, 1.5"),
        ("labels/patient004_frame01", "cannot be read"),
        ("images/patient003_frame02", "does not say how it lies"),
    ):
        assert any(name in line and re.search(told, line) for line in text.splitlines()), told
    with pytest.raises(DataError, match="8 problems"):
        volume_evaluation_datalist(copied, preset)


def test_images_without_a_label_can_be_left_out(copied, preset):
    (copied / "labels" / "patient001_frame02.nii.gz").unlink()
    with pytest.raises(DataError, match="no label"):
        volume_evaluation_datalist(copied, preset)
    assert len(volume_evaluation_datalist(copied, preset, allow_unlabelled=True)) == 7


def test_a_label_may_have_another_order_of_axes(copied, preset):
    path = copied / "labels" / "patient001_frame01.nii.gz"
    nib.save(nib.load(path).as_reoriented([[1, -1], [0, 1], [2, -1]]), path)
    assert len(volume_evaluation_datalist(copied, preset)) == 8


def test_real_volumes_pass(shared_data):
    plain = Preset("mr", label_classes=LabelClasses(["anterior", "posterior"]))
    assert len(volume_evaluation_datalist(shared_data / "msd-hippocampus", plain)) == 40
    with pytest.raises(DataError, match=r"40 problems(.|\n)*numbers 2"):
        volume_evaluation_datalist(shared_data / "msd-hippocampus", Preset("mr", label_classes=LabelClasses(["one"])))


# ---- slices


def test_slices_are_the_data_of_a_dataset(heart_volumes, preset):
    items = volume_evaluation_datalist(heart_volumes, preset)[:2]
    assert len(volume_slices(items, preset)) == 12
    kept = volume_slices(items, preset, keep_empty=0.5)
    assert len(kept) == 10  # four with a label and one of the two others, of each
    random = [RandFlipd(["image", "label"], prob=1.0, spatial_axis=0)]
    dataset = CacheDataset(kept, preset.training(random), num_workers=1, progress=False)
    batch = next(iter(DataLoader(dataset, batch_size=10)))
    assert batch["image"].shape == (10, 3, 32, 32)
    assert batch["label"].shape == (10, 1, 32, 32)
    assert batch["dataset"] == [heart_volumes.name] * 10
    plain = CacheDataset(kept, preset.training(), num_workers=1, progress=False)[1]
    assert torch.equal(batch["label"][1].flip(1), plain["label"])


def test_no_slice_is_told(copied, preset):
    item = volume_evaluation_datalist(copied, preset)[0]
    file = nib.load(item["label"])
    nib.save(nib.Nifti1Image(np.zeros(file.shape, np.uint8), file.affine), item["label"])
    with pytest.raises(DataError, match="None of the 1 volumes has a slice with a label"):
        volume_slices([item], preset, keep_empty=0)
