# SPDX-License-Identifier: Apache-2.0
"""Tests of lists of DICOM series for the configs of bundles: parts without a common patient, the check, slices."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch

from monai_sam2unet.bundle import volume_evaluation_datalist, volume_slices, volume_training_datalist
from monai_sam2unet.dicom import read_volume
from monai_sam2unet.errors import DataError
from monai_sam2unet.transforms import LabelClasses, Preset

SHAPE = (10, 8, 4)
AFFINE = np.diag([-1.0, -1.0, 3.0, 1.0])
MASK = np.zeros(SHAPE, bool)
MASK[2:5, 2:6, 1:3] = True


@pytest.fixture
def preset() -> Preset:
    return Preset("ct", 32, label_classes=LabelClasses(["Liver"]))


@pytest.fixture
def scans(make_dicom_volume, make_segmentation, tmp_path) -> Path:
    """Two series of each of three patients, in folders whose names do not tell the patient."""
    for number in range(6):
        folder = tmp_path / "scans" / f"study{number}"
        values = np.random.default_rng(number).integers(-900, 100, SHAPE)
        files = make_dicom_volume(folder / "ct", values, AFFINE, PatientID=f"p{number // 2}")
        make_segmentation(folder / "seg.dcm", files, {"Liver": MASK})
    return tmp_path / "scans"


def test_no_patient_is_in_two_parts(scans, preset, caplog):
    found = volume_training_datalist(scans, preset, val_fraction=0.3, fold=0, num_folds=3)
    held_out = volume_evaluation_datalist(scans, preset, fold=0, num_folds=3)
    parts = [{item["patient"] for item in part} for part in (found["training"], found["validation"], held_out)]
    assert [len(part) for part in parts] == [1, 1, 1]
    assert set.union(*parts) == {"p0", "p1", "p2"}
    # A pattern is looked for in the path of the series, below the data's folder.
    found = volume_training_datalist(scans, preset, val_fraction=0.5, group_pattern=r"study(\d)")
    assert [len(found[part]) for part in ("training", "validation")] == [3, 3]
    with pytest.raises(DataError, match=r"finds no patient in the name of .*study2"):
        volume_evaluation_datalist(scans, preset, fold=0, group_pattern="study[01]")
    # One for the names of a public set, as bundles have it.
    assert caplog.text == ""
    held_out = volume_evaluation_datalist(scans, preset, fold=0, num_folds=3, group_pattern="patient([0-9]+)")
    assert len({item["patient"] for item in held_out}) == 1
    assert "'patient([0-9]+)' is passed over, for it finds no patient in any of the 6 series' paths" in caplog.text
    with pytest.raises(DataError, match=r"3 patients are too few for 5 folds\. Where PatientID tells patients wrongly"):
        volume_evaluation_datalist(scans, preset, fold=0)
    assert len(volume_evaluation_datalist(scans, preset, fold=0, group_pattern=".+")) == 2


@pytest.mark.parametrize("absolute", [True, False])
def test_a_pattern_tells_the_patients_of_a_datalist(scans, preset, absolute, monkeypatch, caplog):
    monkeypatch.chdir(scans)
    folder = scans if absolute else Path()
    cases = [{"image": str(folder / f"study{n}/ct"), "label": f"study{n}/seg.dcm"} for n in range(6)]
    (scans / "list.json").write_text(json.dumps({"training": cases}))
    for datalist in (scans / "list.json", "list.json"):
        # By PatientID, which all folds would go by if the pattern were looked for in "ct", there are three.
        items = volume_evaluation_datalist(datalist, preset, fold=0, num_folds=6, group_pattern=r"^study(\d)/ct$")
        assert len(items) == 1
    assert caplog.text == ""


def test_some_cases_by_name(scans, preset, tmp_path):
    (tmp_path / "split.txt").write_text("study1/ct\nstudy4/ct\n")
    items = volume_evaluation_datalist(scans, preset, split_file=tmp_path / "split.txt")
    assert [Path(item["filename_or_obj"]).relative_to(scans).as_posix() for item in items] == [
        "study1/ct.dcm",
        "study4/ct.dcm",
    ]


def test_slices_are_those_of_the_series(scans, preset):
    items = volume_evaluation_datalist(scans, preset)
    slices = volume_slices(items, preset, keep_empty=0)
    assert len(slices) == 6 * 2
    case = preset.volumes()(dict(items[0]))
    volume = read_volume(scans / "study0" / "ct")
    assert torch.equal(case["label"].affine, torch.from_numpy(volume.affine))
    assert np.array_equal(case["label"][0].numpy(), MASK)


def test_all_problems_are_told_at_once(scans, preset, make_dicom_volume):
    def edit(path, change):
        dataset = pydicom.dcmread(path)
        change(dataset)
        dataset.save_as(path)

    (scans / "study0" / "seg.dcm").unlink()
    edit(scans / "study1" / "seg.dcm", lambda d: setattr(d.SegmentSequence[0], "SegmentLabel", "Spleen"))
    edit(
        scans / "study2" / "seg.dcm",
        lambda d: setattr(
            d.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0], "ImagePositionPatient", [0, 0, 1]
        ),
    )
    (scans / "study3" / "ct" / "002.dcm").unlink()
    for path in (scans / "study4" / "ct").iterdir():
        edit(path, lambda d: setattr(d, "Modality", "MR"))
    with pytest.raises(DataError) as error:
        volume_evaluation_datalist(scans, preset)
    text = str(error.value)
    assert text.startswith("5 problems")
    for told in (
        "study0/ct.dcm: no label",
        "study1/seg.dcm has segments that are no class, as Spleen",
        "study2/seg.dcm: 1 of 2 frames do not lie on the image",
        "1 slices are missing",
        "study4/ct has the Modality MR; this preset takes CT",
    ):
        assert told in text
    with pytest.raises(DataError, match="4 problems"):
        volume_evaluation_datalist(scans, preset, allow_unlabelled=True)
