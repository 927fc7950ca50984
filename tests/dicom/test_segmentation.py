# SPDX-License-Identifier: Apache-2.0
"""DICOM segmentations on the grid of their image: parity with highdicom and dcmqi, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import highdicom
import nibabel as nib
import numpy as np
import pydicom
import pytest

from monai_sam2unet.dicom import DicomSegmentation, read_grid, read_volume
from monai_sam2unet.errors import DataError

#: Oblique, with columns, rows and slices of odd numbers, so that packed bits of a frame do not end with a byte.
SHAPE = (13, 11, 7)
OBLIQUE = nib.affines.from_matvec(
    nib.eulerangles.euler2mat(0.1, -0.2, 0.15) @ np.diag([-0.7, -0.8, 2.5]), [40.0, 30.0, -100.0]
)


def dcmqi(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip(f"dcmqi's {name} is not installed")
    return found


@pytest.fixture(scope="module")
def masks() -> dict[str, np.ndarray]:
    """Two that do not touch, in slices 1 to 4; the last ones are empty."""
    made = {label: np.zeros(SHAPE, bool) for label in ("Liver", "Spleen")}
    noise = np.random.default_rng(0).random(SHAPE)
    made["Liver"][:6, 2:9, 1:4] = noise[:6, 2:9, 1:4] > 0.4
    made["Spleen"][7:12, 1:5, 2:5] = noise[7:12, 1:5, 2:5] > 0.4
    return made


@pytest.fixture(scope="module")
def series(make_dicom_volume, tmp_path_factory) -> list[Path]:
    values = np.random.default_rng(1).integers(-1000, 1000, SHAPE)
    return make_dicom_volume(tmp_path_factory.mktemp("series") / "ct", values, OBLIQUE)


@pytest.fixture(scope="module")
def grid(series):
    found = read_grid(series)
    return found.affine, found.shape[::-1]


def labelled(path: Path, grid, classes=None) -> np.ndarray:
    segmentation = DicomSegmentation(path)
    return segmentation.to_classes(classes or {number: number for number in segmentation.segments}, *grid)


def edited(path: Path, out: Path, edit) -> Path:
    dataset = pydicom.dcmread(path)
    edit(dataset)
    dataset.save_as(out)
    return out


# ---- what is read


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_masks_are_those_that_were_written(make_segmentation, series, grid, masks, tmp_path, kind):
    path = make_segmentation(tmp_path / "seg.dcm", series, masks, kind)
    expected = masks["Liver"] + 2 * masks["Spleen"]
    assert np.array_equal(labelled(path, grid), expected)
    segmentation = DicomSegmentation(path)
    labels = {s.number: s.label for s in segmentation.segments.values() if not s.is_background}
    assert labels == {1: "Liver", 2: "Spleen"}
    assert segmentation.referenced_series == (pydicom.dcmread(series[0]).SeriesInstanceUID,)
    # Segments that are left out are background, those of one class are joined.
    assert np.array_equal(labelled(path, grid, {2: 5}), 5 * masks["Spleen"])
    assert np.array_equal(labelled(path, grid, {1: 3, 2: 3}), 3 * (expected > 0))


def test_fractions_of_a_half_and_more_are_inside(make_segmentation, series, grid, masks, tmp_path):
    shares = np.where(masks["Liver"], 0.49, 0) + np.where(masks["Spleen"], 0.51, 0)
    path = make_segmentation(tmp_path / "seg.dcm", series, {"x": shares}, "FRACTIONAL")
    assert np.array_equal(labelled(path, grid), masks["Spleen"])


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_highdicom_reads_the_same(make_segmentation, series, grid, masks, tmp_path, kind):
    path = make_segmentation(tmp_path / "seg.dcm", series, masks, kind)
    theirs = highdicom.seg.segread(path)
    pixels = theirs.get_pixels_by_source_instance(
        [pydicom.dcmread(file).SOPInstanceUID for file in series],
        segment_numbers=[1, 2], combine_segments=True, rescale_fractional=True, skip_overlap_checks=True,
        assert_missing_frames_are_empty=True,
    )  # fmt: skip
    assert np.array_equal(labelled(path, grid), pixels.transpose(2, 1, 0))
    # By geometry, too: theirs is cropped and reversed, and laid on the series by highdicom itself.
    cut = theirs.get_volume(combine_segments=True, segment_numbers=[1, 2], rescale_fractional=True)
    whole = highdicom.get_volume_from_series([pydicom.dcmread(file) for file in series])
    matched = cut.match_geometry(whole.with_array(np.zeros(whole.array.shape, cut.array.dtype)))
    order = slice(None) if np.allclose(whole.affine[:3, 3], _lps(grid[0])[:3, 3]) else slice(None, None, -1)
    assert np.array_equal(labelled(path, grid), matched.array.transpose(2, 1, 0)[..., order])


def _lps(affine: np.ndarray) -> np.ndarray:
    return np.diag([-1, -1, 1, 1]) @ affine


@pytest.mark.parametrize(("image", "name"), [("ct-3slice", "liver.dcm"), ("24x38x3", "24x38x3/label.seg")])
def test_real_ones_are_as_dcmqi_reads_them(shared_data, tmp_path, image, name):
    folder = shared_data / "dicom" / "seg"
    path, volume = folder / name, read_volume(folder / image)
    ours = labelled(path, (volume.affine, volume.shape[::-1]))
    assert np.array_equal(ours, by_dcmqi(path, tmp_path, volume.affine, ours.shape))
    assert ours.any()


def test_made_ones_are_as_dcmqi_reads_them(make_segmentation, series, grid, masks, tmp_path):
    path = make_segmentation(tmp_path / "seg.dcm", series, masks)
    assert np.array_equal(labelled(path, grid), by_dcmqi(path, tmp_path, *grid))


def by_dcmqi(path: Path, folder: Path, affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Segments as dcmqi's converter writes them, each on a grid of its own, brought voxel by voxel to another grid."""
    words = [dcmqi("segimage2itkimage"), "--inputDICOM", path, "--outputDirectory", folder, "--outputType", "nii"]
    subprocess.run([str(word) for word in words], check=True, capture_output=True)
    out = np.zeros(shape, np.uint16)
    for file in folder.glob("*.nii.gz"):
        found = nib.load(file)
        values = np.asarray(found.dataobj)
        index = nib.affines.apply_affine(np.linalg.inv(affine) @ found.affine, np.argwhere(values > 0))
        assert np.abs(index - np.rint(index)).max() < 0.01
        out[tuple(np.rint(index).astype(int).T)] = values[values > 0]
    return out


def test_frames_written_by_dcmqi_the_other_way_round(series, grid, masks, tmp_path):
    """It keeps the label's axes, which of NIfTI run against those of the series."""
    affine, _ = grid
    expected = (masks["Liver"] + 2 * masks["Spleen"]).astype(np.uint8)
    label = nib.as_closest_canonical(nib.Nifti1Image(expected, affine))
    assert not np.allclose(label.affine, affine)
    nib.save(label, tmp_path / "label.nii.gz")
    code = {"CodeValue": "123037004", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Anatomical Structure"}
    segments = [
        {
            "labelID": number,
            "SegmentLabel": name,
            "SegmentDescription": name,
            "SegmentAlgorithmType": "MANUAL",
            "SegmentedPropertyCategoryCodeSequence": code,
            "SegmentedPropertyTypeCodeSequence": code,
        }
        for number, name in enumerate(masks, 1)
    ]
    (tmp_path / "meta.json").write_text(
        json.dumps({"SeriesDescription": "made", "SeriesNumber": "2", "segmentAttributes": [segments]})
    )
    out = tmp_path / "seg.dcm"
    words = [
        dcmqi("itkimage2segimage"), "--inputImageList", tmp_path / "label.nii.gz", "--inputDICOMDirectory",
        series[0].parent, "--outputDICOM", out, "--inputMetadata", tmp_path / "meta.json", "--skip",
    ]  # fmt: skip
    subprocess.run([str(word) for word in words], check=True, capture_output=True)
    orientation = pydicom.dcmread(out).SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    assert not np.allclose(
        orientation.ImageOrientationPatient, pydicom.dcmread(series[0]).ImageOrientationPatient, atol=0.1
    )
    assert np.array_equal(labelled(out, grid), expected)


def test_pixels_of_the_background_of_a_label_map(shared_data):
    path = shared_data / "dicom" / "seg" / "24x38x3" / "sparse-labelmap-ppv5.dcm"
    volume = read_volume(path.parent)
    assert {s.label: s.is_background for s in DicomSegmentation(path).segments.values()} == {
        "Background": True,
        "Liver": False,
    }
    ours = labelled(path, (volume.affine, volume.shape[::-1]), {1: 1})
    assert ours.sum() == (pydicom.dcmread(path).pixel_array == 1).sum() > 0


# ---- what is refused


def test_segments_that_overlap(make_segmentation, series, grid, masks, tmp_path, shared_data):
    both = {**masks, "Tumour": np.roll(masks["Liver"], 1, 0)}
    path = make_segmentation(tmp_path / "seg.dcm", series, both)
    count = int((both["Liver"] & both["Tumour"]).sum())
    with pytest.raises(DataError, match=f"segments overlap(.|\n)*Liver and Tumour in {count} voxels"):
        labelled(path, grid)
    assert np.array_equal(labelled(path, grid, {1: 1, 3: 1}), both["Liver"] | both["Tumour"])
    assert np.array_equal(labelled(path, grid, {3: 1}), both["Tumour"])
    volume = read_volume(shared_data / "dicom" / "seg" / "ct-3slice")
    with pytest.raises(DataError, match="GREEN and ORANGE in 3017 voxels"):
        labelled(shared_data / "dicom" / "seg" / "partial_overlaps.dcm", (volume.affine, volume.shape[::-1]))


@pytest.mark.parametrize(
    ("voxels", "told"),
    [((0, 0, 0.5), "off the image's voxels"), ((0.2, 0, 0), "off the image's voxels"), ((0, 0, 5), "reaches beyond")],
)
def test_frames_off_the_image(make_segmentation, series, grid, masks, tmp_path, voxels, told):
    def move(dataset):
        for frame in dataset.PerFrameFunctionalGroupsSequence:
            plane = frame.PlanePositionSequence[0]
            moved = np.array(plane.ImagePositionPatient, float) + _lps(OBLIQUE)[:3, :3] @ voxels
            plane.ImagePositionPatient = [f"{v:.8f}"[:16] for v in moved]

    path = edited(make_segmentation(tmp_path / "seg.dcm", series, masks), tmp_path / "moved.dcm", move)
    with pytest.raises(DataError, match=rf"\d of 6 frames do not lie on the image(.|\n)*{told}"):
        labelled(path, grid)


def test_a_segmentation_of_another_series(make_segmentation, series, masks, tmp_path):
    segmentation = DicomSegmentation(make_segmentation(tmp_path / "seg.dcm", series, masks))
    segmentation.check_series(pydicom.dcmread(series[0]).SeriesInstanceUID)
    segmentation.check_series("")
    with pytest.raises(DataError, match=r"segments the series .* not the image's, 1\.2\.3"):
        segmentation.check_series("1.2.3")


def test_files_that_are_no_segmentations(make_segmentation, series, grid, masks, tmp_path):
    with pytest.raises(DataError, match="no DICOM segmentation but of the class CT Image Storage"):
        DicomSegmentation(series[0])
    path = make_segmentation(tmp_path / "seg.dcm", series, masks)
    other = edited(path, tmp_path / "type.dcm", lambda dataset: setattr(dataset, "SegmentationType", "SURFACE"))
    with pytest.raises(DataError, match="must be BINARY, FRACTIONAL or LABELMAP, got 'SURFACE'"):
        DicomSegmentation(other)

    def renumber(dataset):
        dataset.SegmentSequence[0].SegmentNumber = 9

    with pytest.raises(DataError, match="the segment 1, which the file does not describe"):
        labelled(edited(path, tmp_path / "number.dcm", renumber), grid)
