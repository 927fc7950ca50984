# SPDX-License-Identifier: Apache-2.0
"""Tests of what is done to each series, with real images and a bundle's own inference beside it."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timezone
from pathlib import Path

import highdicom
import nibabel as nib
import numpy as np
import pandas as pd
import pydicom
import pytest
from monai.bundle import create_workflow
from PIL import Image
from pydicom.pixels import convert_color_space

from monai_sam2unet.batch.bundle_processor import BundleProcessor
from monai_sam2unet.batch.outcome import RunStopped
from monai_sam2unet.batch.output_files import OUTPUTS, output_writers
from monai_sam2unet.batch.segmented_series import Model
from monai_sam2unet.batch.series_job import SeriesJob
from monai_sam2unet.batch.sources import find_jobs
from monai_sam2unet.batch.transfer import TransferError
from monai_sam2unet.bundle import BundlePredictor
from monai_sam2unet.dicom.derived_object import Algorithm
from monai_sam2unet.dicom.segments import read_segments
from monai_sam2unet.errors import ConfigError, DataError

BUNDLES = Path(__file__).parents[2] / "bundles"
SMALL = {"encoder_size": "tiny", "spatial_size": [64, 64], "num_workers": 0, "device": "cpu"}


@pytest.fixture
def processor(checkpoint, tmp_path):
    def make(name: str, write: list[str], kind: str = "BINARY", **settings: object) -> BundleProcessor:
        predictor = BundlePredictor(BUNDLES / name, {**SMALL, "ckpt_path": checkpoint(name), **settings})
        metadata = predictor.config.metadata
        algorithm = Algorithm(metadata["name"], metadata["version"], predictor.weights_sha256)
        model = Model(read_segments(metadata), algorithm, datetime(2026, 1, 2, tzinfo=timezone.utc), kind)
        return BundleProcessor(predictor, model, output_writers(write), tmp_path)

    return make


@pytest.fixture
def ct_series(shared_data, tmp_path) -> Path:
    """A real CT, whose UIDs were taken away, with new ones."""
    folder = tmp_path / "ct"
    folder.mkdir()
    for file in (shared_data / "dicom" / "ct_series_j2k_with_seg" / "ct").iterdir():
        image = pydicom.dcmread(file)
        image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID
        image.StudyInstanceUID, image.SeriesInstanceUID = "1.2.3.4.1", "1.2.3.4.2"
        image.save_as(folder / file.name)
    return folder


def only_job(source: Path) -> SeriesJob:
    found = list(find_jobs(source))
    assert [type(item) for item in found] == [SeriesJob]
    return found[0]


def convert(values: np.ndarray, image: pydicom.Dataset) -> np.ndarray:
    told = image.PhotometricInterpretation
    return values if told == "RGB" else convert_color_space(values, told, "RGB")


def segmented(processor: BundleProcessor, jobs: list[SeriesJob], folder: Path) -> None:
    results = processor.predict([processor.read(job) for job in jobs])
    for job, result in zip(jobs, results, strict=True):
        (folder / job.key).mkdir(parents=True)
        processor.write(job, result, folder / job.key)


@pytest.mark.slow
def test_a_volume_equals_the_bundles_own_inference(ct_series, processor, checkpoint, tmp_path) -> None:
    name, source = "abdominal_ct_segmentation", ct_series
    job = only_job(source)
    segmented(processor(name, list(OUTPUTS)), [job], tmp_path / "out")
    folder = tmp_path / "out" / job.key
    settings = {"dataset_dir": str(source), "output_dir": str(tmp_path / "own"), "ckpt_path": checkpoint(name)}
    config = str(BUNDLES / name / "configs" / "inference.yaml")
    create_workflow("ConfigWorkflow", config_file=config, workflow_type="infer", **SMALL, **settings).run()
    own = nib.load(next((tmp_path / "own").rglob("*.nii.gz")))
    found = nib.load(folder / "segmentation.nii.gz")
    mask = np.asarray(found.dataobj)
    assert np.array_equal(found.affine, own.affine)
    assert np.array_equal(mask, np.asarray(own.dataobj))
    assert len(np.unique(mask)) > 2
    # The same mask in the other files.
    stored = highdicom.seg.segread(folder / "segmentation.dcm")
    uids = [pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID for file in job.files]
    by_image = stored.get_pixels_by_source_instance(uids, combine_segments=True, assert_missing_frames_are_empty=True)
    slices = {uid: plane for uid, plane in zip(uids, by_image, strict=True)}
    order = [frame.dataset.SOPInstanceUID for frame in processor(name, ["csv"]).read(job).volume.frames]
    assert np.array_equal(np.stack([slices[uid] for uid in order]).transpose(2, 1, 0), mask)
    table = pd.read_csv(folder / "measurements.csv").set_index("number")
    voxel = abs(np.linalg.det(found.affine[:3, :3])) / 1000
    counts = Counter(mask[mask > 0].tolist())
    assert table["volume_ml"].to_dict() == pytest.approx({n: counts.get(n, 0) * voxel for n in range(1, 14)})
    assert pydicom.dcmread(folder / "report.dcm").Modality == "SR"
    with Image.open(folder / "preview.png") as preview:
        assert max(preview.size) == 512
    assert len(list(folder.glob("overlay*.dcm"))) == 3


def test_series_share_batches_and_stay_apart(shared_data, processor, tmp_path) -> None:
    names = ["mr_series_t1post_oblique10deg", "mr_series_hippocrop"]
    jobs = [only_job(shared_data / "dicom" / name) for name in names]
    own = processor("hippocampus_mr_segmentation", ["nifti"])
    segmented(own, jobs, tmp_path / "together")
    for job in jobs:
        segmented(own, [job], tmp_path / "alone")
        together, alone = (
            np.asarray(nib.load(tmp_path / name / job.key / "segmentation.nii.gz").dataobj)
            for name in ("together", "alone")
        )
        assert together.shape == alone.shape
        assert (together != alone).mean() < 1e-3


@pytest.mark.parametrize("frames", [1, 30])
def test_pictures_are_segmented_frame_by_frame(shared_data, processor, tmp_path, frames) -> None:
    ours, pydicoms = shared_data / "dicom" / "colour" / "US1_UNCR.dcm", "examples_ybr_color.dcm"
    source = ours if frames == 1 else Path(str(pydicom.data.get_testdata_file(pydicoms)))
    job = only_job(source)
    own = processor("breast_ultrasound_segmentation", ["seg", "nifti", "csv", "png"])
    segmented(own, [job], tmp_path)
    mask = np.asarray(nib.load(tmp_path / job.key / "segmentation.nii.gz").dataobj).transpose(2, 1, 0)
    image = pydicom.dcmread(source)
    assert mask.shape == (frames, image.Rows, image.Columns)
    assert pydicom.dcmread(tmp_path / job.key / "segmentation.dcm").Modality == "SEG"
    # Each frame is predicted as it would be alone.
    values = image.pixel_array if frames > 1 else image.pixel_array[None]
    for number in (0, frames - 1):
        Image.fromarray(convert(values[number], image)).save(tmp_path / "frame.png")
        case = own.predictor.load(tmp_path / "frame.png")
        alone = own.predictor.mask(case, own.predictor.predict([case])[0])[0].numpy()
        assert (alone != mask[number]).mean() < 1e-3


def test_probabilities_are_fractions(shared_data, processor, tmp_path) -> None:
    job = only_job(shared_data / "dicom" / "mr_series_hippocrop")
    name = "hippocampus_mr_segmentation"
    segmented(processor(name, ["seg"], "FRACTIONAL", **{"inferer::argmax": False}), [job], tmp_path)
    stored = pydicom.dcmread(tmp_path / job.key / "segmentation.dcm")
    assert (stored.SegmentationType, stored.SegmentationFractionalType) == ("FRACTIONAL", "PROBABILITY")
    assert 1 < len(np.unique(stored.pixel_array)) <= 256


def test_a_wrong_modality_is_refused(shared_data, processor) -> None:
    job = only_job(shared_data / "dicom" / "mr_series_hippocrop")
    with pytest.raises(DataError, match="Modality MR"):
        processor("abdominal_ct_segmentation", ["seg"]).read(job)


def test_what_can_be_written() -> None:
    assert output_writers(["csv", "seg"]) == [OUTPUTS["seg"], OUTPUTS["csv"]]
    with pytest.raises(ConfigError, match="chosen of seg, nifti"):
        output_writers(["rtstruct"])
    with pytest.raises(ConfigError, match="refers to the segmentation"):
        output_writers(["sr"])


def test_a_pacs_that_is_down_stops_the_run(shared_data, processor, tmp_path) -> None:
    class Down:
        def send(self, files):
            raise TransferError("the archive refuses")

    job = only_job(shared_data / "dicom" / "mr_series_hippocrop")
    own = processor("hippocampus_mr_segmentation", ["seg"])
    own.senders = (Down(),)
    (result,) = own.predict([own.read(job)])
    for number, expected in enumerate((TransferError, TransferError, RunStopped)):
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.raises(expected, match="the archive refuses"):
            own.write(job, result, folder)
