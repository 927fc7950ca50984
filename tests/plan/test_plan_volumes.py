# SPDX-License-Identifier: Apache-2.0
"""Tests of plans of volumes: what is measured, what is wrong with broken ones, what is chosen, and that it trains."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.plan.plan_volumes import plan_volumes
from monai_sam2unet.plan.volume_fingerprint import fingerprint_volume
from monai_sam2unet.plan.volume_survey import survey_volumes

from ..warm_python import WarmPython

SHAPE = (40, 36, 6)
SPACING = (1.5, 1.5, 8.0)
SETS = {"acdc": ("mr", 3), "msd-hippocampus": ("mr", 2), "totalseg-example": ("ct", 62), "sct-spine": ("mr", 1)}


def save(values: np.ndarray, path: Path, affine: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, np.diag([*SPACING, 1.0]) if affine is None else affine), path)


def label(*values: int) -> np.ndarray:
    made = np.zeros(SHAPE, np.uint8)
    for place, value in enumerate(values or (1, 2)):
        made[5 : 5 + 10, 4 + 12 * place : 14 + 12 * place, 1:4] = value
    return made


def volume(number: int, air: float = 0.0) -> np.ndarray:
    values = np.random.default_rng(number).integers(0, 40, SHAPE) + 60 * label() + (air if air else 0)
    return values.astype(np.int16)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Five volumes of five patients in the layout of the Decathlon."""
    folder = tmp_path / "data"
    for number in range(5):
        save(volume(number), folder / "imagesTr" / f"p{number}.nii.gz")
        save(label(), folder / "labelsTr" / f"p{number}.nii.gz")
    return folder


def chosen(folder: Path, out: Path, **options) -> dict[str, object]:
    return {c.name: c.value for c in plan_volumes(survey_volumes(folder, workers=1), folder, out, **options)}


def test_what_a_volume_is_like(data: Path):
    item = {"image": str(data / "imagesTr" / "p0.nii.gz"), "label": str(data / "labelsTr" / "p0.nii.gz")}
    found = fingerprint_volume(item)
    assert not isinstance(found, str)
    assert (found.shape, found.spacing, found.axis, found.plane) == (list(SHAPE), list(SPACING), 2, "axial")
    assert found.is_anisotropic
    assert (found.values, found.labelled_slices) == ({"1": 300, "2": 300}, 3)
    assert (found.objects, found.areas[0]) == (["1"] * 3 + ["2"] * 3, pytest.approx(100 / 40**2))
    assert found.inside is not None
    assert 60 <= found.inside[0] <= found.inside[2] <= 160


def test_the_bundle_trains_as_it_is(python_m: WarmPython, data: Path, tmp_path: Path):
    folder = tmp_path / "two_parts"
    plan_volumes(survey_volumes(data, workers=1), data, folder, class_names=["upper", "lower"])
    train = yaml.safe_load((folder / "configs" / "train.yaml").read_text())
    assert (train["class_names"], train["label_ids"], train["dataset_dir"]) == (["upper", "lower"], None, str(data))
    small = ["--spatial_size", "[64,64]", "--num_workers", "0"]
    for words in (
        ["training", "--config_file", "configs/train.yaml", "--weights", "random", "--max_epochs", "1"],
        ["evaluating", "--config_file", "configs/evaluate.yaml"],
    ):
        done = python_m(["monai.bundle", "run", *words, *small], cwd=folder)
        assert done.returncode == 0, done.stderr[-2000:]
    assert "hd95_lower" in (folder / "eval" / "metrics.csv").read_text()


def test_names_and_numbers_of_labels(data: Path, tmp_path: Path):
    for path in (data / "labelsTr").iterdir():
        save(label(3, 7), path)
    (data / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "3": "liver", "7": "spleen"}}))
    assert chosen(data, tmp_path / "a")["label_ids"] == {"liver": 3, "spleen": 7}
    (data / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "liver": 3, "spleen": 7}}))
    assert chosen(data, tmp_path / "b")["label_ids"] == {"liver": 3, "spleen": 7}
    assert chosen(data, tmp_path / "c", class_names=["x", "y"])["label_ids"] == {"x": 3, "y": 7}
    with pytest.raises(ConfigError, match="names 1 classes; the labels hold 2"):
        chosen(data, tmp_path / "d", class_names=["x"])


def test_volumes_to_predict_are_no_problem(data: Path):
    save(volume(9), data / "imagesTs" / "p9.nii.gz")
    assert survey_volumes(data, workers=1).problems == []


@pytest.mark.parametrize("labelled", [False, True])
def test_patients_in_both_parts_are_told(data: Path, labelled: bool):
    for name in ("p4", "p9"):
        save(volume(9), data / "imagesTs" / f"{name}.nii.gz")
        if labelled:
            save(label(), data / "labelsTs" / f"{name}.nii.gz")
    assert survey_volumes(data, workers=1).problems == []
    problems = survey_volumes(data, group_pattern="p([0-9])", workers=1).problems
    assert problems == ["4: this patient is in the training and in the test sets (as p4.nii.gz and p4.nii.gz)"]
    problems = survey_volumes(data, group_pattern="p([0-8])", workers=1).problems
    assert len(problems) == 1
    assert "finds no patient in the name of" in problems[0]


def test_they_are_told_of_the_folders_of_acdc(tmp_path: Path):
    for part, numbers in (("training", range(1, 6)), ("testing", (5, 6))):
        for number in numbers:
            stem = tmp_path / part / f"patient{number:03}" / f"patient{number:03}_frame{len(part)}"
            save(volume(number), stem.with_suffix(".nii.gz"))
            save(label(), stem.with_name(f"{stem.name}_gt.nii.gz"))
    survey = survey_volumes(tmp_path, group_pattern="patient([0-9]+)", workers=1)
    assert (survey.layout, len(survey.cases)) == ("ACDC", 5)
    assert [problem.partition(":")[0] for problem in survey.problems] == ["005"]


def test_a_file_for_each_class(tmp_path: Path):
    for number in range(5):
        save(volume(number, -1000), tmp_path / f"s{number}" / "ct.nii.gz")
        for name, values in (("liver", label(1)), ("brain", label(0))):
            save(values, tmp_path / f"s{number}" / "segmentations" / f"{name}.nii.gz")
    survey = survey_volumes(tmp_path, workers=1)
    assert (survey.problems, survey.class_names, survey.label_ids) == ([], ("brain", "liver"), None)


def test_names_that_yaml_would_take_apart(data: Path, tmp_path: Path):
    names = ["liver, left lobe", "no"]
    chosen(data, tmp_path / "bundle", class_names=names)
    for config in ("train", "evaluate"):
        text = (tmp_path / "bundle" / "configs" / f"{config}.yaml").read_text()
        assert yaml.safe_load(text)["class_names"] == names
    with pytest.raises(ConfigError, match="different names"):
        chosen(data, tmp_path / "twice", class_names=["a", "a"])


@pytest.mark.parametrize("pattern", ["(", "zzz", "p[0-9]*[05]"])
def test_patients_that_cannot_be_told_are_refused(data: Path, tmp_path: Path, pattern: str):
    with pytest.raises((ConfigError, DataError), match="group_pattern"):
        chosen(data, tmp_path / "bundle", group_pattern=pattern)


def test_ct_gets_a_window_around_its_labels(data: Path, tmp_path: Path):
    for number, path in enumerate(sorted((data / "imagesTr").iterdir())):
        values = volume(number)
        values[0] = -1000
        save(values, path)
    found = chosen(data, tmp_path / "bundle")
    assert found["modality"] == "ct"
    ((level, width),) = found["windows"]
    assert level - width / 2 < 60
    assert level + width / 2 > 160
    train = yaml.safe_load((tmp_path / "bundle" / "configs" / "train.yaml").read_text())
    assert train["preset"]["windows"] == [[level, width]]


def test_slices_are_those_that_were_acquired(data: Path, tmp_path: Path):
    assert chosen(data, tmp_path / "axial")["plane"] == "axial"
    for path in data.rglob("*.nii.gz"):
        values = np.asarray(nib.load(path).dataobj)
        save(values, path, np.array([[0, 0, 8.0, 0], [1.5, 0, 0, 0], [0, 1.5, 0, 0], [0, 0, 0, 1]]))
    assert chosen(data, tmp_path / "sagittal")["plane"] == "sagittal"
    for path in data.rglob("*.nii.gz"):
        save(np.asarray(nib.load(path).dataobj), path, np.diag([1.0, 1.0, 1.2, 1.0]))
    assert chosen(data, tmp_path / "isotropic")["plane"] == "axial"


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "an image without a label": (lambda d: (d / "labelsTr" / "p0.nii.gz").unlink(), "p0.nii.gz: there is no label"),
    "a label without an image": (lambda d: (d / "imagesTr" / "p0.nii.gz").unlink(), "there is no image of this label"),
    "another shape": (lambda d: save(label()[..., :4], d / "labelsTr" / "p0.nii.gz"), "has the shape (40, 36, 6)"),
    "another grid": (
        lambda d: save(label(), d / "labelsTr" / "p0.nii.gz", np.diag([3.0, 1.5, 8.0, 1.0])), "p0.nii.gz",
    ),
    "fractions": (
        lambda d: save(label().astype(np.float32) / 3, d / "labelsTr" / "p0.nii.gz"), "values that are no integers",
    ),
    "a negative label": (
        lambda d: save(label().astype(np.int16) - 1, d / "labelsTr" / "p0.nii.gz"), "holds the value -1",
    ),
    "a label to be ignored": (
        lambda d: (d / "dataset.json").write_text('{"labels": {"background": 0, "organ": 1, "ignore": 2}}'),
        "a label is called ignore",
    ),
    "a truncated file": (
        lambda d: (d / "imagesTr" / "p0.nii.gz").write_bytes((d / "imagesTr" / "p0.nii.gz").read_bytes()[:300]),
        "p0.nii.gz or its label cannot be measured",
    ),
    "no numbers": (
        lambda d: save(np.full(SHAPE, np.nan, np.float32), d / "imagesTr" / "p0.nii.gz"), "values that are no numbers",
    ),
    "empty labels": (
        lambda d: [save(label(0), path) for path in (d / "labelsTr").iterdir()], "all labels are empty",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_folders(data: Path, tmp_path: Path, kind: str):
    damage, message = BROKEN[kind]
    damage(data)
    survey = survey_volumes(data, workers=1)
    assert any(message in problem for problem in survey.problems), survey.problems
    with pytest.raises(DataError, match="problems with"):
        plan_volumes(survey, data, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("name", SETS)
def test_real_sets_are_planned_unchanged(shared_data: Path, tmp_path: Path, name: str):
    survey = survey_volumes(shared_data / name, workers=2)
    assert survey.problems == []
    choices = {c.name: c.value for c in plan_volumes(survey, shared_data / name, tmp_path / "bundle", gpu_memory=24)}
    assert (choices["modality"], len(survey.labels)) == SETS[name]
