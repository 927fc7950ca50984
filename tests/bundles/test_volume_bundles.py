# SPDX-License-Identifier: Apache-2.0
"""The commands of the bundles for volumes, on small made ones and on real ones."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.metrics import compute_dice
from monai.utils import set_determinism

from monai_sam2unet.dicom import read_volume
from monai_sam2unet.networks import SAM2UNet

CARDIAC = "cardiac_mr_segmentation"
HIPPOCAMPUS = "hippocampus_mr_segmentation"
ABDOMEN = "abdominal_ct_segmentation"


@pytest.fixture(scope="module")
def heart(run, heart_volumes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a short training on the made hearts, its checkpoints among it."""
    folder = tmp_path_factory.mktemp("heart")
    settings = {"ckpt_dir": folder, "log_dir": folder / "runs", "max_epochs": 1, "fold": 0, "num_folds": 4}
    run("training", "train", in_bundle=CARDIAC, dataset_dir=heart_volumes, **settings)
    return folder


def untrained(path: Path, out_channels: int) -> Path:
    torch.manual_seed(0)
    torch.save(SAM2UNet(size="tiny", out_channels=out_channels).state_dict(), path)
    return path


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def same_grid(written: Path, affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The label map of a file, which lies where the source does, bit for bit."""
    found = nib.load(written)
    assert found.shape == shape
    assert found.get_data_dtype() == np.uint8
    assert np.array_equal(found.affine, affine.astype(np.float32).astype(np.float64))
    return np.asarray(found.dataobj)


# ---- what MONAI asks of a bundle


@pytest.mark.parametrize(("config", "kind"), [("train", "train"), ("evaluate", "infer"), ("inference", "infer")])
def test_required_properties(repository, heart_volumes, tmp_path, monkeypatch, config, kind) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # the bundle sets its own
    settings = {
        "dataset_dir": str(heart_volumes),
        "encoder_size": "tiny",
        "weights": "random",
        "spatial_size": [64, 64],
    }
    folders = {"ckpt_dir": str(tmp_path), "log_dir": str(tmp_path), "output_dir": str(tmp_path)}
    path = repository / "bundles" / CARDIAC / "configs" / f"{config}.yaml"
    workflow = ConfigWorkflow(str(path), workflow_type=kind, **settings, **folders)
    workflow.initialize()
    assert workflow.check_properties() == []
    set_determinism(None)


# ---- training


def test_training_writes_weights_and_curves_of_each_class(heart: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    state = torch.load(heart / "model.pt", weights_only=True)
    SAM2UNet(size="tiny", out_channels=4).load_state_dict(state, strict=True)
    events = EventAccumulator(str(heart / "runs"))
    events.Reload()
    tags = set(events.Tags()["scalars"])
    assert {
        "train/loss",
        *(f"validation/val_{name}" for name in ("mean_dice", "dice_RV", "dice_MYO", "dice_LV")),
    } <= tags
    assert "validation/0" in events.Tags()["images"]


def test_labels_that_do_not_fit_are_told_before_training(run, heart_volumes: Path, tmp_path: Path) -> None:
    folders = {"ckpt_dir": tmp_path, "log_dir": tmp_path / "runs"}
    done = run("training", "train", check=False, in_bundle=HIPPOCAMPUS, dataset_dir=heart_volumes, **folders)
    assert done.returncode == 1
    assert "8 problems with volumes or labels" in done.stderr
    assert "Traceback" not in done.stderr


# ---- evaluation and inference


def test_evaluation_agrees_with_the_label_maps_of_inference(
    run, heart: Path, heart_volumes: Path, tmp_path: Path
) -> None:
    settings = {"in_bundle": CARDIAC, "ckpt_path": heart / "model.pt"}
    fold = {"fold": 0, "num_folds": 4}
    run("evaluating", "evaluate", dataset_dir=heart_volumes, output_dir=tmp_path / "eval", **fold, **settings)
    rows = rows_of(tmp_path / "eval")
    assert len({Path(row["image"]).name.partition("_")[0] for row in rows}) == 1  # one patient of four, both times
    assert len(rows) == 2
    images = tmp_path / "in" / "deep"
    images.mkdir(parents=True)
    for row in rows:
        shutil.copy(row["image"], images)
    run("inferring", "inference", dataset_dir=tmp_path / "in", output_dir=tmp_path / "out", **settings)
    for row in rows:
        name = Path(row["image"]).name
        truth = nib.load(heart_volumes / "labels" / name)
        found = same_grid(tmp_path / "out" / "deep" / name, truth.affine, truth.shape)
        for k, part in enumerate(("RV", "MYO", "LV"), 1):
            pair = [torch.from_numpy(np.asarray(x) == k)[None, None].float() for x in (found, truth.dataobj)]
            assert float(row[f"dice_{part}"]) == pytest.approx(float(compute_dice(*pair, ignore_empty=False)), abs=1e-6)
        assert float(row["dice"]) == pytest.approx(np.mean([float(row[f"dice_{p}"]) for p in ("RV", "MYO", "LV")]))
        assert [int(row[f"size_{axis}"]) for axis in "xyz"] == list(truth.shape)
    summary = json.loads((tmp_path / "eval" / "summary.json").read_text())
    assert summary["sets"][heart_volumes.name]["images"] == 2
    assert summary["settings"]["scores"]["unit"] == "mm"
    assert "patient" in (tmp_path / "eval" / "report.html").read_text(encoding="utf-8")


def test_inference_does_what_it_can_and_names_the_rest(run, heart_volumes: Path, tmp_path: Path) -> None:
    checkpoint = untrained(tmp_path / "model.pt", 3)
    folder = tmp_path / "in"
    folder.mkdir()
    source = heart_volumes / "images" / "patient001_frame01.nii.gz"
    shutil.copy(source, folder)
    (folder / "broken.nii.gz").write_bytes(source.read_bytes()[:200])
    settings = {"in_bundle": HIPPOCAMPUS, "ckpt_path": checkpoint, "dataset_dir": folder}
    done = run("inferring", "inference", check=False, output_dir=tmp_path / "out", **settings)
    assert done.returncode == 1
    assert "broken.nii.gz" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == [source.name]
    done = run("inferring", "inference", check=False, output_dir=folder, **settings)
    assert "would be written over the volumes" in done.stderr
    assert (folder / source.name).read_bytes() == source.read_bytes()


@pytest.mark.parametrize("layout", ["numbers", "files"])
def test_labels_of_totalsegmentator(run, tmp_path: Path, layout: str) -> None:
    """Its numbers, and its files for each class, are the plan's classes by name; nothing else is dropped unasked."""
    bundles = Path(__file__).parents[2] / "bundles"
    ids = ConfigParser.load_config_file(bundles / ABDOMEN / "configs" / "totalsegmentator.yaml")["label_ids"]
    names = ConfigParser.load_config_file(bundles / ABDOMEN / "configs" / "evaluate.yaml")["class_names"]
    classes = np.zeros((20, 16, 14), np.uint8)
    for k in range(1, 14):
        classes[4:9, 3:9, k] = k
    affine = np.diag([2.0, 2.0, 3.0, 1.0])

    def save(path: Path, values: np.ndarray) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(values, affine), path)

    case = tmp_path / "data" / "s0001"
    save(case / "ct.nii.gz", (classes.astype(np.int16) * 20 - 100))
    if layout == "numbers":
        labels = np.array([0, *(ids[name] for name in names)], np.uint8)[classes]
        labels[0, 0, 0] = 99
        save(case / "segmentations.nii.gz", labels)
    else:
        for k, name in enumerate(names, 1):
            save(case / "segmentations" / f"{name}.nii.gz", (classes == k).astype(np.uint8))
        save(case / "segmentations" / "heart.nii.gz", (classes == 99).astype(np.uint8))
    settings = {"in_bundle": ABDOMEN, "ckpt_path": untrained(tmp_path / "model.pt", 14)}
    settings |= {"dataset_dir": tmp_path / "data", "output_dir": tmp_path / "eval", "report": "False"}
    done = run("evaluating", "evaluate", check=False, **settings)
    assert done.returncode == 1
    assert ("which are no class" if layout == "numbers" else "files that are no class") in done.stderr
    run("evaluating", "['configs/evaluate.yaml','configs/totalsegmentator.yaml']", **settings)
    (row,) = rows_of(tmp_path / "eval")
    assert float(row["foreground"]) == pytest.approx((classes > 0).mean())
    assert all(row[f"{column}_{name}"] for column in ("dice", "iou", "hd95") for name in names)


@pytest.mark.slow
def test_predictions_lie_where_the_source_does(run, shared_data: Path, tmp_path: Path) -> None:
    """An ACDC file, a hippocampus file, and two DICOM series, one oblique: shape and affine bit for bit."""
    folder = tmp_path / "in"
    files = [
        shared_data / "acdc" / "images" / "patient002_frame01.nii.gz",
        shared_data / "msd-hippocampus" / "images" / "hippocampus_026.nii.gz",
    ]
    (folder / "nifti").mkdir(parents=True)
    for file in files:
        shutil.copy(file, folder / "nifti")
    series = [shared_data / "dicom" / name for name in ("mr_series_hippocrop", "mr_series_t1post_oblique10deg")]
    for source in series:
        shutil.copytree(source, folder / "studies" / source.name)
    checkpoint = untrained(tmp_path / "model.pt", 3)
    run(
        "inferring", "inference", in_bundle=HIPPOCAMPUS, dataset_dir=folder, ckpt_path=checkpoint,
        output_dir=tmp_path / "out",
    )  # fmt: skip
    for file in files:
        source = nib.load(file)
        same_grid(tmp_path / "out" / "nifti" / file.name, source.affine, source.shape)
    for source in series:
        volume = read_volume(source)
        same_grid(tmp_path / "out" / "studies" / f"{source.name}.nii.gz", volume.affine, volume.pixels.shape[::-1])
    assert len([path for path in (tmp_path / "out").rglob("*") if path.is_file()]) == 4
