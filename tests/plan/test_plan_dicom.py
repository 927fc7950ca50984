# SPDX-License-Identifier: Apache-2.0
"""Tests of plans of DICOM series: what is recognised, what is wrong with broken ones, and that the bundle trains."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import yaml

from monai_sam2unet.dicom import read_volume
from monai_sam2unet.plan.nnunet_export import export_volumes
from monai_sam2unet.plan.plan_volumes import plan_volumes
from monai_sam2unet.plan.volume_survey import holds_volumes, survey_volumes

from ..warm_python import WarmPython

SHAPE = (20, 18, 6)
AFFINE = nib.affines.from_matvec(np.diag([-1.5, -1.5, 6.0]), [20.0, 15.0, -40.0])


def organs(generator) -> dict[str, np.ndarray]:
    masks = {name: np.zeros(SHAPE, bool) for name in ("Liver", "Left kidney")}
    for k, mask in enumerate(masks.values()):
        row, column = generator.integers(0, 3, 2)
        mask[10 * k + row : 10 * k + row + 7, column : column + 9, 1:5] = True
    return masks


@pytest.fixture
def make_case(make_dicom_volume, make_segmentation):
    """Writes a series, without air, and its segmentation: (root, number, masks to write instead)."""

    def make(root: Path, number: int, **masks: np.ndarray) -> list[Path]:
        generator = np.random.default_rng(number)
        own = organs(generator)
        values = generator.integers(-100, -60, SHAPE) + 150 * own["Liver"] + 250 * own["Left kidney"]
        files = make_dicom_volume(root / f"study{number}" / "ct", values, AFFINE, PatientID=f"patient{number // 2}")
        make_segmentation(root / "segmentations" / f"{number}.dcm", files, masks or own)
        return files

    return make


@pytest.fixture
def data(make_case, tmp_path: Path) -> Path:
    for number in range(6):
        make_case(tmp_path / "data", number)
    return tmp_path / "data"


def test_what_is_recognised_and_chosen(data: Path, tmp_path: Path):
    assert holds_volumes(data)
    survey = survey_volumes(data, workers=1)
    assert (survey.layout, survey.problems) == ("DICOM series with DICOM segmentations", [])
    assert survey.is_ct  # by Modality: there is no air
    assert (survey.class_names, survey.label_ids) == (("Left kidney", "Liver"), None)
    case = survey.cases[0]
    assert (case.shape, case.spacing, case.plane, case.modality) == (list(SHAPE), [1.5, 1.5, 6.0], "axial", "CT")
    assert case.values == {"Liver": 7 * 9 * 4, "Left kidney": 7 * 9 * 4}
    choices = {c.name: c for c in plan_volumes(survey, data, tmp_path / "own")}
    assert choices["modality"].reason == "the Modality of the DICOM series is CT"
    assert (choices["fold"].value, choices["fold"].reason[:10]) == (None, "3 patients")
    assert "PatientID tells 3 patients" in choices["group_pattern"].reason
    train = yaml.safe_load((tmp_path / "own" / "configs" / "train.yaml").read_text())
    assert train["class_names"] == ["Left kidney", "Liver"]
    assert "DICOM series with DICOM segmentations: 6 volumes" in (tmp_path / "own" / "plan.md").read_text()


def test_what_is_measured_is_kept_until_a_file_changes(data: Path, tmp_path: Path):
    before = survey_volumes(data, workers=1, cache=tmp_path / "cache")
    counted: list[None] = []
    survey_volumes(data, workers=1, cache=tmp_path / "cache", advance=lambda: counted.append(None))
    assert counted == []
    slice_file = data / "study0" / "ct" / "001.dcm"
    dataset = pydicom.dcmread(slice_file)
    dataset.PixelData = b"\0" * len(dataset.PixelData)
    dataset.save_as(slice_file)
    after = survey_volumes(data, workers=1, cache=tmp_path / "cache", advance=lambda: counted.append(None))
    assert len(counted) == 6
    assert before.cases[0].outside != after.cases[0].outside


def test_all_problems_are_told_at_once(data: Path, make_case, make_dicom_volume, tmp_path: Path):
    liver = organs(np.random.default_rng(6))["Liver"]
    make_case(data, 6, Liver=liver, Tumour=liver)
    make_dicom_volume(data / "study9" / "ct", np.zeros(SHAPE), AFFINE)
    lost = make_case(tmp_path / "elsewhere", 7)
    (tmp_path / "elsewhere" / "segmentations" / "7.dcm").rename(data / "segmentations" / "7.dcm")
    moved = pydicom.dcmread(data / "segmentations" / "0.dcm")
    for frame in moved.PerFrameFunctionalGroupsSequence:
        frame.PlanePositionSequence[0].ImagePositionPatient[2] += 3
    moved.save_as(data / "segmentations" / "0.dcm")
    (data / "study1" / "ct" / "003.dcm").unlink()
    problems = survey_volumes(data, workers=1).problems
    uid = pydicom.dcmread(lost[0]).SeriesInstanceUID
    for name, told in (
        ("segmentations/7.dcm", f"it segments the series {uid}, which is not here"),
        ("study9/ct.dcm", "there is no label"),
        ("study6/ct.dcm", "Liver and Tumour in 252 voxels"),
        ("study0/ct.dcm", "do not lie on the image"),
        ("study1/ct.dcm", "1 slices are missing"),
    ):
        assert any(name in line and told in line for line in problems), (told, problems)
    assert len(problems) == 5


def test_labels_beside_with_another_affine(data: Path, make_dicom_volume, tmp_path: Path):
    affine = AFFINE.copy()
    for number in range(2):
        make_dicom_volume(tmp_path / "two" / f"p{number}" / "ct", np.full(SHAPE, -200), AFFINE)
        label = nib.Nifti1Image(organs(np.random.default_rng(0))["Liver"].astype(np.uint8), affine)
        nib.save(label, tmp_path / "two" / f"p{number}" / "label.nii.gz")
        affine[0, 3] += 1
    (problem,) = survey_volumes(tmp_path / "two", workers=1).problems
    assert "a corner lies 1 mm apart" in problem
    assert "label.nii.gz" in problem


def test_series_for_nnunet(data: Path, tmp_path: Path):
    folder = export_volumes(survey_volumes(data, workers=1), data, tmp_path / "raw", group_pattern=r"study(\d)")
    volume = read_volume(data / "study0" / "ct")
    image = nib.load(folder / "imagesTr" / "study0_ct_0000.nii.gz")
    label = nib.load(folder / "labelsTr" / "study0_ct.nii.gz")
    assert np.array_equal(np.asarray(image.dataobj), volume.pixels.transpose(2, 1, 0))
    masks = organs(np.random.default_rng(0))
    assert np.array_equal(np.asarray(label.dataobj), masks["Left kidney"] + 2 * masks["Liver"])
    assert np.allclose(label.affine, volume.affine)


@pytest.mark.slow
def test_from_a_folder_of_series_to_label_maps(python_m: WarmPython, data: Path, tmp_path: Path):
    """`sam2unet plan`, one epoch, and inference of one of the series, by the commands that users type."""
    environment = {**os.environ, "HOME": str(tmp_path)}

    def command(*words: object, cwd: Path | None = None) -> str:
        done = python_m(words, cwd=cwd, env=environment)
        assert done.returncode == 0, done.stderr[-2000:]
        return " ".join(done.stdout.split())

    bundle, out = tmp_path / "organs", tmp_path / "out"
    told = command("monai_sam2unet", "plan", data, "--out", bundle, "--gpu-memory", 0, "--group-pattern", "study[0-9]")
    assert "DICOM series with DICOM segmentations, 6 cases" in told
    run = ("monai.bundle", "run")
    small = ("--spatial_size", "[64,64]", "--num_workers", 0)
    train = ("--config_file", "configs/train.yaml", "--weights", "random", "--max_epochs", 1)
    command(*run, "training", *train, *small, cwd=bundle)
    command(*run, "evaluating", "--config_file", "configs/evaluate.yaml", *small, cwd=bundle)
    summary = json.loads((bundle / "eval" / "summary.json").read_text())
    assert summary["sets"]["data"]["images"] in (1, 2)  # a fifth of six
    series = data / "study3" / "ct"
    infer = ("--config_file", "configs/inference.yaml", "--dataset_dir", series, "--output_dir", out)
    command(*run, "inferring", *infer, *small, cwd=bundle)
    found, volume = nib.load(out / "ct.nii.gz"), read_volume(series)
    assert (found.shape, found.get_data_dtype()) == (SHAPE, np.uint8)
    assert np.array_equal(found.affine, volume.affine.astype(np.float32).astype(np.float64))
    assert set(np.unique(np.asarray(found.dataobj))) <= {0, 1, 2}


def test_a_patient_in_both_parts_is_told_by_patient_id(make_case, tmp_path: Path):
    root = tmp_path / "data"
    for part, number in (("training", 0), ("training", 2), ("testing", 1), ("testing", 4)):
        make_case(root / part, number)
    (problem,) = survey_volumes(root, workers=1).problems
    assert problem.startswith("patient0: this patient is in the training and in the test sets")
