# SPDX-License-Identifier: Apache-2.0
"""Bundles for volumes trained and measured on DICOM series, with their own configs as they are."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigParser

from monai_sam2unet.data import recognise_volumes
from monai_sam2unet.transforms import LabelClasses, Preset

ABDOMEN = "abdominal_ct_segmentation"
SHAPE = (24, 20, 6)
#: Tilted, so that no axis of the series is one of the patient's.
AFFINE = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.1, 0.05) @ np.diag([-1.5, -2.0, 5.0]), [20.0, 30.0, -40.0])


@pytest.fixture(scope="module")
def scans(make_dicom_volume, make_segmentation, tmp_path_factory) -> Path:
    """Four patients, each with a series and, elsewhere, a DICOM segmentation of two organs; none in the first slice."""
    folder = tmp_path_factory.mktemp("scans")
    generator = np.random.default_rng(0)
    for patient in range(4):
        masks = {name: np.zeros(SHAPE, bool) for name in ("liver", "spleen")}
        for k, mask in enumerate(masks.values()):
            row, column = generator.integers(1, 4, 2)
            mask[10 * k + row : 10 * k + row + 8, column : column + 10, 1:5] = True
        values = generator.integers(-1000, -900, SHAPE) + 1000 * masks["liver"] + 1100 * masks["spleen"]
        files = make_dicom_volume(folder / f"p{patient}" / "ct", values, AFFINE, PatientID=f"p{patient}")
        make_segmentation(folder / "segmentations" / f"{patient}.dcm", files, masks)
    return folder


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_series_with_segmentations(run, scans: Path, tmp_path: Path) -> None:
    fold = {"fold": 0, "num_folds": 4, "in_bundle": ABDOMEN}
    folders = {"ckpt_dir": tmp_path, "log_dir": tmp_path / "runs"}
    run("training", "train", dataset_dir=scans, max_epochs=1, **fold, **folders)
    settings = {"ckpt_path": tmp_path / "model.pt", "in_bundle": ABDOMEN}
    run("evaluating", "evaluate", dataset_dir=scans, output_dir=tmp_path / "eval", **(settings | fold))
    (row,) = rows_of(tmp_path / "eval")
    assert Path(row["image"]).name == "ct.dcm"
    case = Path(row["image"]).parent.name
    assert [int(row[f"size_{axis}"]) for axis in "xyz"] == list(SHAPE)
    assert float(row["foreground"]) == pytest.approx(2 * 8 * 10 * 4 / np.prod(SHAPE))

    run("inferring", "inference", dataset_dir=scans / case, output_dir=tmp_path / "out", **settings)
    found = nib.load(tmp_path / "out" / "ct.nii.gz")
    (item,) = (item for item in recognise_volumes(scans).sets[scans.name] if item["patient"] == case)
    preset = Preset("ct", label_classes=LabelClasses(["spleen", "liver"]))
    label = preset.volumes()(dict(item))["label"]
    assert found.shape == label.shape[1:]
    assert np.array_equal(found.affine, label.affine.numpy().astype(np.float32).astype(np.float64))
    assert np.allclose(found.affine, AFFINE, atol=1e-4)


@pytest.mark.slow
def test_real_series_with_labels_beside(run, shared_data: Path, make_dicom_volume, tmp_path: Path) -> None:
    """A series as it comes from a scanner, and one made of a NIfTI file, each beside its label of other axes."""
    data = tmp_path / "data"
    shutil.copytree(shared_data / "dicom" / "ct_series_j2k_with_seg", data / "one")
    image = nib.load(shared_data / "totalseg-example" / "images" / "ct_sm_3mm.nii.gz")
    make_dicom_volume(data / "two" / "dicom", np.asarray(image.dataobj).round(), image.affine)
    shutil.copy(shared_data / "totalseg-example" / "labels" / "ct_sm_3mm.nii.gz", data / "two")
    configs = Path(__file__).parents[2] / "bundles" / ABDOMEN / "configs"
    both = "['configs/{}.yaml','configs/totalsegmentator.yaml']"
    settings = {"in_bundle": ABDOMEN, "dataset_dir": data}
    folders = {"ckpt_dir": tmp_path, "log_dir": tmp_path / "runs"}
    run("training", both.format("train"), weights="random", max_epochs=1, batch_size=4, **settings, **folders)
    checkpoint = {"ckpt_path": tmp_path / "model.pt", "report": "False", "allow_training_cases": "True"}
    run("evaluating", both.format("evaluate"), output_dir=tmp_path / "eval", **checkpoint, **settings)
    ids = ConfigParser.load_config_file(configs / "totalsegmentator.yaml")["label_ids"]
    wanted = [number for name, number in ids.items() if name != "background"]
    sources = {"one": "example_seg_dicom.nii.gz", "two": "ct_sm_3mm.nii.gz"}
    for row in rows_of(tmp_path / "eval"):
        label = np.asarray(
            nib.load(data / Path(row["image"]).parent.name / sources.pop(Path(row["image"]).parent.name)).dataobj
        )
        assert float(row["foreground"]) == pytest.approx(np.isin(label, wanted).mean())
    assert not sources
