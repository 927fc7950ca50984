# SPDX-License-Identifier: Apache-2.0
"""Tests of ``sam2unet dicom`` as a user runs it: real series in, files in folders out, and what is said."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pydicom
import pytest
import torch
from typer.testing import CliRunner

from monai_sam2unet.bundle import BundleConfig
from monai_sam2unet.cli import app

BUNDLES = Path(__file__).parents[2] / "bundles"
HIPPOCAMPUS = BUNDLES / "hippocampus_mr_segmentation"
SMALL = {"encoder_size": "tiny", "spatial_size": "[64,64]"}
CROP, RGB = "mr_series_hippocrop", "mr_rgb_j2k"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "random.pt"
    torch.manual_seed(0)
    network = BundleConfig(HIPPOCAMPUS, {"encoder_size": "tiny"}).build("network_def")
    torch.save({"model": network.state_dict()}, path)
    return path


@pytest.fixture
def command(weights, tmp_path):
    def run(*words: object, bundle: Path = HIPPOCAMPUS, output: str = "out", checkpoint: Path = weights):
        settings = [word for name, value in SMALL.items() for word in (f"--{name}", value)]
        given = ["--bundle", bundle, "--output", tmp_path / output, *words, "--ckpt_path", checkpoint, *settings]
        return CliRunner().invoke(app, ["dicom", *map(str, given)])

    return run


@pytest.fixture
def source(shared_data, tmp_path) -> Path:
    folder = tmp_path / "source"
    shutil.copytree(shared_data / "dicom" / CROP, folder / "deep" / "in a tree")
    (folder / "notes.txt").write_text("not DICOM")
    return folder


def files_in(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file() and path.parent != folder
    }


def test_a_run_is_not_done_twice(source, command, tmp_path) -> None:
    done = command("--input", source, "--write", "seg,nifti,png,csv,sr,sc")
    assert done.exit_code == 0, done.output
    assert "1 series done" in done.stderr
    uid = str(pydicom.dcmread(next((source / "deep").rglob("*.dcm"))).SeriesInstanceUID)
    written = files_in(tmp_path / "out")
    names = {"segmentation.dcm", "segmentation.nii.gz", "preview.png", "measurements.csv", "report.dcm"}
    assert {f"{uid}/{name}" for name in names} <= set(written)
    table = pd.read_csv(tmp_path / "out" / "measurements.csv")
    assert table["series"].tolist() == [uid] * 2
    assert "To look at" in (tmp_path / "out" / "report.html").read_text()
    # Neither the screen nor the log says whose it is.
    assert uid not in done.output + (tmp_path / "out" / "batch.log").read_text()
    again = command("--input", source, "--write", "seg,nifti,png,csv,sr,sc")
    assert again.exit_code == 0
    assert "1 done before" in again.stderr
    assert files_in(tmp_path / "out") == written


def test_a_bad_series_fails_alone(source, shared_data, command, tmp_path) -> None:
    shutil.copytree(shared_data / "dicom" / RGB, source / "colours")
    shutil.copy(shared_data / "dicom" / "broken" / "MR_truncated.dcm", source)
    shutil.copytree(shared_data / "dicom" / "seg", source / "ct")
    done = command("--input", source)
    assert done.exit_code == 1, done.output
    assert "1 series done, 2 failed, 2 left out" in done.stderr
    assert "1 expected" in done.stderr
    page = (tmp_path / "out" / "report.html").read_text()
    assert "needs modality MR, it has CT" in page
    # The damaged file is named by the screen and by the page alike.
    (told,) = [line for line in done.stderr.splitlines() if "is cut off" in line]
    assert told.split(": ")[1].split()[0] in page
    assert "MR_truncated" not in done.stderr + page
    before = command("--input", source)
    assert before.exit_code == 1
    assert "1 failed before, and are tried again with --retry-failed" in before.stderr
    again = command("--input", source, "--retry-failed")
    assert again.exit_code == 1
    assert "0 series done (1 done before), 2 failed" in again.stderr
    (source / "MR_truncated.dcm").unlink()
    shutil.rmtree(source / "colours")
    shutil.rmtree(tmp_path / "out")
    # What a rule leaves is no failure.
    assert command("--input", source).exit_code == 0


def test_a_damaged_file_alone_is_a_failure_and_its_name_is_shown_when_asked_for(shared_data, command, tmp_path) -> None:
    (tmp_path / "source").mkdir()
    shutil.copy(shared_data / "dicom" / "broken" / "MR_truncated.dcm", tmp_path / "source")
    done = command("--input", tmp_path / "source", "--show-identity")
    assert done.exit_code == 1, done.output
    assert "MR_truncated.dcm is cut off" in done.stderr


def test_a_source_without_images(command, tmp_path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "notes.txt").write_text("not DICOM")
    done = command("--input", tmp_path / "source")
    assert done.exit_code == 2, done.output
    assert "There is no DICOM image in it" in done.stderr


def test_a_dry_run_does_nothing(source, shared_data, command, tmp_path) -> None:
    shutil.copytree(shared_data / "dicom" / "seg", source / "ct")
    shown = command("--input", source, "--dry-run")
    assert shown.exit_code == 0
    rows = [line.split("\t") for line in shown.stdout.splitlines()]
    assert [row[0] for row in rows].count("taken") == 1
    assert ["left", "CT"] in [[row[0], row[2]] for row in rows]
    assert not (tmp_path / "out").exists()
    assert "no weights" not in shown.stderr
    told = command("--input", source, "--dry-run", checkpoint=tmp_path / "model.pt").stderr
    assert f"no weights {tmp_path / 'model.pt'} yet" in " ".join(told.split())
    (tmp_path / "rules.yaml").write_text("rules: [{take: {modality: CT, slices: {max: 3}}}]")
    chosen = command("--input", source, "--dry-run", "--rules", tmp_path / "rules.yaml").stdout
    assert [line.split("\t")[2] for line in chosen.splitlines() if line.startswith("taken")] == ["CT", "CT"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "Give either --input"),
        (["--input", "SOURCE", "--write", "rtstruct"], "chosen of seg, nifti"),
        (["--input", "SOURCE", "--segmentation-type", "surface"], "BINARY, FRACTIONAL, LABELMAP"),
        (["--input", "SOURCE", "--where", "Modality=CT"], "--where asks a DICOMweb server"),
        (["--input", "SOURCE", "--send", "mailto:me"], "no place to send to"),
        (["--input", "SOURCE", "--write", "csv", "--send", "dicom:host:104:AET"], "Only DICOM results are sent"),
        (["--input", "SOURCE", "--series-uid", "*"], "must be a UID"),
        (["--input", "SOURCE", "--retry-faild", "--batch_size", "2"], "is none"),
        (["--input", "SOURCE", "--batchsize", "2"], "has no key 'batchsize'"),
        (["--input", "SOURCE", "--dry-run", "--batchsize", "2"], "has no key 'batchsize'"),
        (["--input", "SOURCE", "--device", "tpu9"], "cpu, cuda or cuda:NUMBER, got 'tpu9'"),
        (["--input", "nowhere"], "no file or folder"),
        (["--input", "SOURCE", "--output", "SOURCE"], "is the input"),
        (["--input", "SOURCE", "--caller", "AET"], "--caller goes with --listen"),
        (["--input", "SOURCE", "--address", "auto"], "go with --engine ray"),
        (["--input", "SOURCE", "--flips", "[a"], "cannot be read"),
    ],
)
def test_what_cannot_start(source, command, words, told) -> None:
    done = command(*(source if word == "SOURCE" else word for word in words))
    assert done.exit_code == 2, done.output
    assert told in done.stderr


def test_other_settings_do_not_go_on_in_a_folder(source, command, tmp_path) -> None:
    assert command("--input", source, "--write", "csv").exit_code == 0
    other = command("--input", source, "--write", "csv,png")
    assert other.exit_code == 2
    assert "made with other settings" in other.stderr
    missing = command("--input", source, output="new", checkpoint=tmp_path / "missing.pt")
    assert missing.exit_code == 2
    assert "There is no checkpoint" in missing.stderr


def test_nothing_written_tells_the_patient(source, command, tmp_path) -> None:
    told = {
        "PatientName": "Doe^Jane",
        "PatientID": "ID-4711",
        "InstitutionName": "St Elsewhere",
        "StudyDate": "20010203",
    }
    for file in (source / "deep").rglob("*.dcm"):
        image = pydicom.dcmread(file)
        for keyword, value in told.items():
            setattr(image, keyword, value)
        image.save_as(file)
    done = command("--input", source, "--write", "seg,nifti,png,csv,sr", "--deidentify")
    assert done.exit_code == 0, done.output
    texts = [*told.values(), str(image.StudyInstanceUID), str(image.SeriesInstanceUID), str(image.SOPInstanceUID)]
    written = files_in(tmp_path / "out")
    # The slices are said to be derived, so that a name could be burned into them: there is no preview.
    assert len(written) == 4
    for name, (_, content) in written.items():
        assert not [text for text in texts if text in name or text.encode() in content], name
    page = (tmp_path / "out" / "report.html").read_text() + (tmp_path / "out" / "batch.log").read_text()
    assert not [text for text in texts if text in page]
