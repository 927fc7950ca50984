# SPDX-License-Identifier: Apache-2.0
"""Tests of DICOM Segmentations: what other programs read is what was written, whatever the source."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from monai_sam2unet.dicom import read_volume
from monai_sam2unet.dicom.segmentation_writer import segmentation
from monai_sam2unet.errors import ConfigError, DataError
from tests.dicom.conftest import CREATED, IDENTITY, SOURCES

IN_SPACE = ("ct", "mr", "enhanced mr")
#: Real images, below the shared folder's dicom/.
REAL = {
    "ct": "seg/ct-3slice",
    "mr": "mr_series_t1post_oblique10deg",
    "enhanced mr": "enhanced_multiframe/IM-0001-0170-0001.dcm",
    "enhanced ct": "enhanced_multiframe/eCT_Supplemental.dcm",
    "mr cine": "enhanced_multiframe/emri_small.dcm",
    "cr": "monochrome1/RG3_J2KI.dcm",
    "dx": "monochrome1/dx_image.dcm",
    "us": "colour/US1_UNCR.dcm",
    "us cine": "colour/OBXXXX1A_rle_2frame.dcm",
    "visible light": "colour/nema-vl2_j2kr.dcm",
}


def as_content(mask, number, kind):
    """What a segmentation of a kind is given for class indices, and what it must hold (slices, rows, columns, K)."""
    one_hot = np.stack([mask == k for k in range(1, number + 1)], axis=-1)
    if kind != "FRACTIONAL":
        return mask, one_hot
    probabilities = (0.7 * one_hot + 0.1 * (mask > 0)[..., None]).astype(np.float32)
    return probabilities, np.rint(probabilities * 255) / 255


def read_back(path, volume):
    """Values (slices, rows, columns, K) of a segmentation file, looked up by the images they refer to."""
    read = hd.seg.segread(path)
    options = {"assert_missing_frames_are_empty": True, "ignore_spatial_locations": True}
    if volume.first.index is None:
        uids = [frame.dataset.SOPInstanceUID for frame in volume.frames]
        return read.get_pixels_by_source_instance(uids, **options)
    numbers = [frame.index + 1 for frame in volume.frames]
    return read.get_pixels_by_source_frame(volume.first.dataset.SOPInstanceUID, numbers, **options)


def read_by_dcmqi(path, volume, folder):
    """Values (slices, rows, columns) of each file that dcmqi makes, put on the volume's grid by their affine."""
    program = shutil.which("segimage2itkimage") or shutil.which("segimage2itkimage", path=Path(sys.executable).parent)
    if program is None:
        pytest.skip("dcmqi's segimage2itkimage is not installed")
    command = [program, "--inputDICOM", str(path), "--outputDirectory", str(folder), "-t", "nrrd"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = []
    for file in sorted(folder.glob("*.nrrd"), key=lambda file: int(re.findall(r"\d+", file.stem)[-1])):
        image = sitk.ReadImage(str(file))
        affine = np.eye(4)
        affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
        affine[:3, 3] = image.GetOrigin()
        relative = np.linalg.inv(volume.affine) @ np.diag([-1, -1, 1, 1]) @ affine
        # It holds the slices from the first to the last that is not empty.
        assert np.allclose(relative[:3, :3], np.eye(3), atol=1e-3)
        assert np.allclose(relative[:2, 3], 0, atol=1e-3)
        start, values = round(relative[2, 3]), sitk.GetArrayFromImage(image)
        placed = np.zeros(volume.pixels.shape[:3])
        placed[start : start + len(values)] = values
        found.append(placed)
    return found


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
@pytest.mark.parametrize("name", SOURCES)
def test_others_read_what_was_written(name, kind, source, segments, algorithm, mask_for, tmp_path, errors_of):
    volume = source(name)
    content, expected = as_content(mask_for(volume), len(segments), kind)
    made = segmentation(content, volume, segments, algorithm, CREATED, kind)
    path = tmp_path / "seg.dcm"
    made.save_as(path)
    assert np.allclose(read_back(path, volume), expected, atol=1e-6)
    errors = errors_of(made)
    if kind == "LABELMAP":
        # dciodvfy of 2023 does not know the label map's SOP class, nor that 0 is its background.
        errors = [line for line in errors if not re.search("Object Not found|SegmentNumber of 0", line)]
    assert errors == []


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
@pytest.mark.parametrize("name", IN_SPACE)
def test_dcmqi_reads_it_at_its_place(name, kind, source, segments, algorithm, mask_for, tmp_path):
    volume = source(name)
    mask = mask_for(volume)
    content, expected = as_content(mask, len(segments), kind)
    path, folder = tmp_path / "seg.dcm", tmp_path / "out"
    folder.mkdir()
    segmentation(content, volume, segments, algorithm, CREATED, kind).save_as(path)
    found = read_by_dcmqi(path, volume, folder)
    if kind == "LABELMAP":
        assert np.array_equal(found[0], mask)
    else:
        for number, values in enumerate(found):
            scale = 255 if kind == "FRACTIONAL" else number + 1
            assert np.allclose(values / scale, expected[..., number], atol=1e-6)


@pytest.mark.parametrize("name", REAL)
def test_real_sources(name, shared_data, segments, algorithm, mask_for, tmp_path, errors_of):
    volume = read_volume(shared_data / "dicom" / REAL[name], strict=False)
    mask = mask_for(volume)
    made = segmentation(mask, volume, segments, algorithm, CREATED)
    made.save_as(tmp_path / "seg.dcm")
    assert np.array_equal(read_back(tmp_path / "seg.dcm", volume), as_content(mask, 3, "BINARY")[1])
    assert errors_of(made) == []


def test_what_it_says_of_itself(source, segments, algorithm, mask_for):
    volume = source("ct")
    made = segmentation(mask_for(volume), volume, segments, algorithm, CREATED)
    liver, kidney, lesion = made.SegmentSequence
    assert (liver.SegmentLabel, liver.SegmentAlgorithmType) == ("Liver", "AUTOMATIC")
    assert (
        kidney.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
    )
    assert lesion.AnatomicRegionSequence[0].CodeMeaning == "Breast"
    colour = hd.color.CIELabColor.from_dicom_value(kidney.RecommendedDisplayCIELabValue).to_rgb()
    assert np.allclose(colour, segments[1].colour, atol=2)
    [model] = liver.SegmentationAlgorithmIdentificationSequence
    assert (model.AlgorithmName, model.AlgorithmVersion) == (algorithm.name, "0.1.0")
    assert model.AlgorithmParameters == f"weights_sha256={algorithm.weights_hash}"
    assert (made.PatientName, made.PatientID, made.StudyInstanceUID) == (
        IDENTITY["PatientName"], IDENTITY["PatientID"], IDENTITY["StudyInstanceUID"],
    )  # fmt: skip
    assert (made.SeriesNumber, made.FrameOfReferenceUID) == (401, volume.first.frame_of_reference)
    # Nobody but the patient: no institution, station or operator.
    assert not any(IDENTITY[key] in str(made) for key in ("InstitutionName", "StationName", "OperatorsName"))
    uids = {item.ReferencedSOPInstanceUID for item in made.SourceImageSequence}
    assert uids == {frame.dataset.SOPInstanceUID for frame in volume.frames}
    assert made.ReferencedSeriesSequence[0].SeriesInstanceUID == IDENTITY["SeriesInstanceUID"]
    assert made.ContentDate == made.InstanceCreationDate == CREATED.date()


@pytest.mark.parametrize("name", ["ct", "cine"])
def test_a_repeated_run_makes_the_same_file(name, source, segments, algorithm, mask_for, tmp_path):
    volume = source(name)
    mask = mask_for(volume)
    for number in range(2):
        segmentation(mask, volume, segments, algorithm, CREATED).save_as(tmp_path / f"{number}.dcm")
    assert (tmp_path / "0.dcm").read_bytes() == (tmp_path / "1.dcm").read_bytes()
    first = segmentation(mask, volume, segments, algorithm, CREATED)
    label_map = segmentation(mask, volume, segments, algorithm, CREATED, "LABELMAP")
    assert label_map.SOPInstanceUID != first.SOPInstanceUID
    mask[-1] = 0
    other = segmentation(mask, volume, segments, algorithm, CREATED)
    assert (other.SeriesInstanceUID, other.SOPInstanceUID == first.SOPInstanceUID) == (first.SeriesInstanceUID, False)


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
@pytest.mark.parametrize("name", ["ct", "enhanced mr", "cine", "dx"])
def test_nothing_found_is_an_object_too(name, kind, source, segments, algorithm, tmp_path, errors_of):
    volume = source(name)
    content, _ = as_content(np.zeros(volume.pixels.shape[:3], np.uint8), 3, kind)
    made = segmentation(content, volume, segments, algorithm, CREATED, kind)
    assert int(made.NumberOfFrames) == (1 if kind == "LABELMAP" else 3)
    assert len(made.SourceImageSequence) == len({frame.path for frame in volume.frames})
    made.save_as(tmp_path / "seg.dcm")
    assert not hd.seg.segread(tmp_path / "seg.dcm").pixel_array.any()
    if kind != "LABELMAP":
        assert errors_of(made) == []


def test_filled_slices_are_left_out(make_series, segments, algorithm, tmp_path):
    make_series(
        tmp_path / "gap", [0, 1, 3, 4], FrameOfReferenceUID="1.2.3.5", StudyInstanceUID="1.2.3", SliceThickness="1"
    )
    with pytest.warns(UserWarning, match="1 slices are missing"):
        volume = read_volume(tmp_path / "gap", fill_gaps=True)
    mask = np.ones(volume.pixels.shape, np.uint8)
    with pytest.warns(UserWarning, match="1 slices .* were filled in"):
        made = segmentation(mask, volume, segments[:1], algorithm, CREATED)
    places = [
        float(item.PlanePositionSequence[0].ImagePositionPatient[2]) for item in made.PerFrameFunctionalGroupsSequence
    ]
    assert sorted(places) == [0, 1, 3, 4]


def test_one_frame_of_a_cine(source, segments, algorithm, mask_for, errors_of):
    volume = source("cine", read={"frame": 3})
    made = segmentation(mask_for(volume), volume, segments, algorithm, CREATED)
    assert made.SourceImageSequence[0].ReferencedFrameNumber == 4
    derivation = made.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0]
    assert derivation.SourceImageSequence[0].ReferencedFrameNumber == 4
    assert errors_of(made) == []


def test_faulty_attributes_of_the_source_are_not_passed_on(source, segments, algorithm, mask_for, errors_of):
    volume = source("dx", PatientAge="0Y", PatientBirthDate="unknown", PatientSex="W", PatientID=None)
    with pytest.warns(UserWarning, match="is not allowed in DICOM, and is left out") as warned:
        made = segmentation(mask_for(volume), volume, segments, algorithm, CREATED)
    # A value may say who somebody is.
    assert not [one for one in warned if "not allowed in DICOM" in str(one.message) and "unknown" in str(one.message)]
    assert "PatientAge" not in made
    assert [made.PatientBirthDate, made.PatientSex, made.PatientID] == ["", "", ""]
    assert errors_of(made) == []


def test_old_and_incomplete_attributes_are_completed(source, segments, algorithm, mask_for, errors_of):
    volume = source("dx", StudyDate="1997.04.24", PatientIdentityRemoved="YES")
    made = segmentation(mask_for(volume), volume, segments, algorithm, CREATED)
    assert (str(made.StudyDate), made.DeidentificationMethod) == ("19970424", "Not told by the source")
    assert errors_of(made) == []


def test_names_in_any_script(source, segments, algorithm, mask_for, tmp_path):
    volume = source("dx", SpecificCharacterSet=("", "ISO 2022 IR 87"), PatientName="Yamada^Tarou=山田^太郎")
    segmentation(mask_for(volume), volume, segments, algorithm, CREATED).save_as(tmp_path / "seg.dcm")
    read = pydicom.dcmread(tmp_path / "seg.dcm")
    assert (read.SpecificCharacterSet, read.PatientName) == ("ISO_IR 192", "Yamada^Tarou=山田^太郎")


@pytest.mark.parametrize(
    ("content", "kind", "told"),
    [
        (np.zeros((5, 40, 50), np.uint8), "RUNLENGTH", "one of BINARY, FRACTIONAL, LABELMAP, got 'RUNLENGTH'"),
        (np.zeros((4, 40, 50), np.uint8), "BINARY", "uint8 or bool of the volume's shape .5, 40, 50"),
        (np.zeros((5, 40, 50), np.int64), "BINARY", "got int64"),
        (np.full((5, 40, 50), 4, np.uint8), "LABELMAP", "holds class 4; 3 classes are described"),
        (np.zeros((5, 40, 50, 2), np.float32), "FRACTIONAL", "of shape .5, 40, 50, 3"),
        (np.zeros((5, 40, 50), np.uint8), "FRACTIONAL", "probabilities of floating point"),
        (np.full((5, 40, 50, 3), np.nan, np.float32), "FRACTIONAL", "must be of 0 to 1, got nan"),
        (np.full((5, 40, 50, 3), 1.5, np.float32), "FRACTIONAL", "must be of 0 to 1, got 1.5"),
    ],
)
def test_masks_that_are_refused(content, kind, told, source, segments, algorithm):
    with pytest.raises((ConfigError, DataError), match=told):
        segmentation(content, source("ct"), segments, algorithm, CREATED, kind)


def test_a_real_source_whose_uids_were_emptied_is_refused(shared_data, segments, algorithm, mask_for):
    volume = read_volume(shared_data / "dicom" / "ct_series_j2k_with_seg" / "ct", num_workers=1)
    with pytest.raises(DataError, match="StudyInstanceUID, SeriesInstanceUID, SOPInstanceUID, SOPClassUID must be"):
        segmentation(mask_for(volume), volume, segments, algorithm, CREATED)


def test_a_source_without_uids_is_refused(source, segments, algorithm, mask_for):
    volume = source("dx", StudyInstanceUID=None)
    with pytest.raises(DataError, match="cannot be referred to: StudyInstanceUID must be valid"):
        segmentation(mask_for(volume), volume, segments, algorithm, CREATED)
