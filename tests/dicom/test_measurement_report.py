# SPDX-License-Identifier: Apache-2.0
"""Tests of measurement reports: others read the numbers, and what they refer to, from the file."""

from __future__ import annotations

import highdicom as hd
import numpy as np
import pytest
from pydicom.sr.codedict import codes

from monai_sam2unet.dicom.measurement_report import measurement_report
from monai_sam2unet.dicom.measurements import measure
from monai_sam2unet.dicom.segmentation_writer import segmentation
from monai_sam2unet.errors import ConfigError
from tests.dicom.conftest import CREATED, IDENTITY, SOURCES


def make(volume, mask, segments, algorithm, kind="BINARY"):
    content = mask if kind != "FRACTIONAL" else np.stack([mask == k for k in (1, 2, 3)], -1).astype(np.float32)
    seg = segmentation(content, volume, segments, algorithm, CREATED, kind)
    measured = measure(mask, volume, segments)
    return measured, seg, measurement_report(measured, seg, volume, segments, algorithm, CREATED)


def numbers(group):
    return {
        (item.name.meaning, item.unit.value): item.value
        for item in group.get_measurements()
    }  # fmt: skip


@pytest.mark.parametrize("name", SOURCES)
def test_dciodvfy_finds_no_error(name, source, segments, algorithm, mask_for, errors_of):
    volume = source(name)
    assert errors_of(make(volume, mask_for(volume), segments, algorithm)[2]) == []


@pytest.mark.parametrize("name", ["ct", "dx", "us"])
def test_it_is_clean_where_nothing_is_found(name, source, segments, algorithm, errors_of):
    volume = source(name)
    empty = np.zeros(volume.pixels.shape[:3], np.uint8)
    assert errors_of(make(volume, empty, segments, algorithm)[2]) == []


def test_volumes_refer_to_the_segments(source, segments, algorithm, mask_for, tmp_path):
    volume = source("ct")
    measured, seg, report = make(volume, mask_for(volume), segments, algorithm)
    report.save_as(tmp_path / "sr.dcm")
    read = hd.sr.srread(tmp_path / "sr.dcm")
    groups = read.content.get_volumetric_roi_measurement_groups()
    assert len(groups) == 3
    for group, one, segment in zip(groups, measured, segments, strict=True):
        values = numbers(group)
        assert values["Volume", "ml"] == pytest.approx(one.volume_ml, rel=1e-5)
        if one.voxels:
            assert values["Long axis", "mm"] == pytest.approx(one.longest_diameter_mm, rel=1e-5)
        else:
            assert set(values) == {("Volume", "ml")}
        [reference] = group.referenced_segment[0].ReferencedSOPSequence
        assert reference.ReferencedSOPInstanceUID == seg.SOPInstanceUID
        assert reference.ReferencedSegmentNumber == segment.number
        assert group.finding_type == segment.type
    assert [site.value for site in groups[2].finding_sites] == [codes.SCT.Breast]
    assert (read.PatientID, read.SeriesNumber, read.CompletionFlag) == (IDENTITY["PatientID"], 402, "COMPLETE")
    [evidence] = read.CurrentRequestedProcedureEvidenceSequence
    listed = {item.SeriesInstanceUID: item.ReferencedSOPSequence for item in evidence.ReferencedSeriesSequence}
    assert set(listed) == {IDENTITY["SeriesInstanceUID"], seg.SeriesInstanceUID}


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
@pytest.mark.parametrize("name", ["dx", "cine"])
def test_areas_refer_to_the_frame_that_shows_them(name, kind, source, segments, algorithm, mask_for, tmp_path):
    volume = source(name)
    measured, seg, report = make(volume, mask_for(volume), segments, algorithm, kind)
    report.save_as(tmp_path / "sr.dcm")
    report = hd.sr.srread(tmp_path / "sr.dcm")
    groups = report.content.get_planar_roi_measurement_groups()
    assert len(groups) == 2
    for group, one in zip(groups, measured, strict=False):
        key, unit = ("area_mm2", "mm2") if name == "dx" else ("area_pixels", "{pixels}")
        assert numbers(group)["Area", unit] == pytest.approx(getattr(one, key), rel=1e-5)
        [reference] = [
            item.ReferencedSOPSequence[0]
            for item in group[0].ContentSequence
            if item.ConceptNameCodeSequence[0].CodeMeaning == "Referenced Segmentation Frame"
        ]
        if kind == "LABELMAP":
            assert reference.ReferencedSegmentNumber == one.number
            continue
        frame = seg.PerFrameFunctionalGroupsSequence[int(reference.ReferencedFrameNumber) - 1]
        assert frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber == one.number
        [image] = frame.DerivationImageSequence[0].SourceImageSequence
        assert image.get("ReferencedFrameNumber", 1) == one.slice + 1
    # What is nowhere has no frame that shows it; its area of 0 is one of the image.
    [nothing] = report.content.get_image_measurement_groups()
    assert set(numbers(nothing).values()) == {0}


def test_a_repeated_run_makes_the_same_file(source, segments, algorithm, mask_for, tmp_path):
    volume = source("ct")
    for number in range(2):
        make(volume, mask_for(volume), segments, algorithm)[2].save_as(tmp_path / f"{number}.dcm")
    assert (tmp_path / "0.dcm").read_bytes() == (tmp_path / "1.dcm").read_bytes()


def test_measurements_of_other_segments_are_refused(source, segments, algorithm, mask_for):
    volume = source("dx")
    measured, seg, _ = make(volume, mask_for(volume), segments, algorithm)
    with pytest.raises(ConfigError, match="2 measurements do not go with 3 segments"):
        measurement_report(measured[:2], seg, volume, segments, algorithm, CREATED)


def test_the_scanner_is_named_as_what_acquired_the_images(source, segments, algorithm, mask_for):
    volume = source("ct")
    for frame in volume.frames:
        frame.dataset.Manufacturer = "Scanner works"
    mask = mask_for(volume)
    made = segmentation(mask, volume, segments, algorithm, CREATED)
    report = measurement_report(measure(mask, volume, segments), made, volume, segments, algorithm, CREATED)
    told = {
        item.PurposeOfReferenceCodeSequence[0].CodeValue: item.Manufacturer
        for item in report.ContributingEquipmentSequence
    }
    assert told["109101"] == "Scanner works"
