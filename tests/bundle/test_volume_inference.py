# SPDX-License-Identifier: Apache-2.0
"""Tests of the volumes that an inference finds: files, DICOM series, what is left out and what is refused."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pytest
from PIL import Image

from monai_sam2unet.bundle import volume_inference_datalist
from monai_sam2unet.errors import DataError
from monai_sam2unet.transforms import Preset

MR = Preset("mr", 32)


def firsts(found):
    paths = [case["image"] for case in found["cases"]]
    return sorted(path if isinstance(path, str) else path[0] for path in paths)


def test_files_at_any_depth(heart_volumes, tmp_path):
    source = heart_volumes / "images" / "patient001_frame01.nii.gz"
    wanted = [tmp_path / "a.nii.gz", tmp_path / "deep" / "er" / "b.nii.gz"]
    others = [
        tmp_path / ".hidden" / "c.nii.gz",
        tmp_path / "deep" / "._b.nii.gz",
        tmp_path / "out" / "masks" / "a.nii.gz",
    ]
    for path in [*wanted, *others]:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, path)
    (tmp_path / "notes.txt").write_text("mine")
    Image.new("L", (8, 8)).save(tmp_path / "picture.png")
    (tmp_path / "broken.nii.gz").write_bytes(source.read_bytes()[:300])
    found = volume_inference_datalist(tmp_path, MR, tmp_path / "out" / "masks")
    assert firsts(found) == [str(path) for path in wanted]
    assert found["root"] == str(tmp_path)
    assert len(found["rejected"]) == 1
    assert "broken.nii.gz cannot be read" in found["rejected"][0]


def test_a_single_file(heart_volumes):
    path = heart_volumes / "images" / "patient001_frame01.nii.gz"
    found = volume_inference_datalist(path, MR)
    assert found == {"cases": [{"image": str(path)}], "rejected": [], "root": str(path.parent)}


def test_what_cannot_be_done_is_told(heart_volumes, tmp_path):
    with pytest.raises(DataError, match="no file or folder"):
        volume_inference_datalist(tmp_path / "none", MR)
    with pytest.raises(DataError, match=r"no volume in .*\n  there is no NIfTI"):
        volume_inference_datalist(tmp_path, MR)
    source = heart_volumes / "images" / "patient001_frame01.nii.gz"
    shutil.copy(source, tmp_path / "a.nii.gz")
    (tmp_path / "a.nii").write_bytes(gzip.decompress(source.read_bytes()))
    with pytest.raises(DataError, match=r"a.nii and .*a.nii.gz would be written to one file"):
        volume_inference_datalist(tmp_path, MR)


# ---- DICOM


@pytest.fixture
def dicom(shared_data):
    return shared_data / "dicom"


def test_series_are_found_by_folder(dicom, tmp_path):
    for name in ("mr_series_hippocrop", "mr_generic_explicit_vr"):
        shutil.copytree(dicom / name, tmp_path / "patient" / name)
    found = volume_inference_datalist(tmp_path, MR)
    assert [len(case["image"]) for case in found["cases"]] == [4, 40]
    assert (found["rejected"], found["root"]) == ([], str(tmp_path))


def test_a_series_folder_itself(dicom):
    found = volume_inference_datalist(dicom / "mr_series_hippocrop", MR)
    assert [len(case["image"]) for case in found["cases"]] == [40]
    assert found["root"] == str(dicom.absolute())


def test_a_series_in_the_working_directory_has_a_name(dicom, monkeypatch):
    monkeypatch.chdir(dicom / "mr_series_hippocrop")
    found = volume_inference_datalist(".", MR)
    assert [len(case["image"]) for case in found["cases"]] == [40]
    assert found["root"] == str(dicom.resolve())


def test_several_series_of_one_folder_are_refused(dicom, tmp_path):
    for name in ("mr_series_hippocrop", "mr_generic_explicit_vr"):
        for file in (dicom / name).iterdir():
            shutil.copy(file, tmp_path / f"{name}_{file.name}")
    with pytest.raises(DataError, match=r"series 1(.|\n)*series 1.*put each series in a folder of its own"):
        volume_inference_datalist(tmp_path, MR)


def test_other_modalities_and_segmentations_are_left_out(dicom, tmp_path):
    shutil.copytree(dicom / "mr_series_hippocrop", tmp_path / "mr")
    shutil.copytree(dicom / "seg" / "ct-3slice", tmp_path / "ct")
    found = volume_inference_datalist(tmp_path, MR)
    assert [Path(case["image"][0]).parent.name for case in found["cases"]] == ["mr"]
    assert len(found["rejected"]) == 1
    assert "has the Modality CT" in found["rejected"][0]
    found = volume_inference_datalist(tmp_path / "ct", Preset("ct", 32))
    assert [len(case["image"]) for case in found["cases"]] == [3]
