# SPDX-License-Identifier: Apache-2.0
"""Tests of de-identification: nothing of the patient is left in the files' bytes, and references still hold."""

from __future__ import annotations

import pydicom
import pytest

from monai_sam2unet.dicom.deidentification import deidentified
from monai_sam2unet.dicom.measurement_report import measurement_report
from monai_sam2unet.dicom.measurements import measure
from monai_sam2unet.dicom.secondary_capture import secondary_captures
from monai_sam2unet.dicom.segmentation_writer import segmentation
from monai_sam2unet.errors import ConfigError, DataError
from tests.dicom.conftest import CREATED, IDENTITY

SECRET = "of the tests"
#: Sex is one letter, which is in every file; it is looked at by itself.
STRINGS = {value for key, value in IDENTITY.items() if key not in ("PatientSex", "SeriesNumber")}
STRINGS |= {
    part for value in (IDENTITY["PatientName"], IDENTITY["ReferringPhysicianName"]) for part in value.split("^")
}


def make(volume, mask, segments, algorithm):
    """A segmentation, a report and a picture."""
    seg = segmentation(mask, volume, segments, algorithm, CREATED)
    report = measurement_report(measure(mask, volume, segments), seg, volume, segments, algorithm, CREATED)
    return [seg, report, secondary_captures(mask, volume, segments, algorithm, CREATED)[0]]


def uids_in(dataset):
    found = set()
    for element in dataset.iterall():
        if element.VR == "UI" and element.value:
            found.update([element.value] if isinstance(element.value, str) else element.value)
    return found


def own_uids(dataset):
    return {uid for uid in uids_in(dataset) if not uid.startswith("1.2.840.10008.")}


@pytest.mark.parametrize("name", ["ct", "enhanced mr", "dx", "cine", "endoscopy"])
def test_nothing_of_the_patient_is_left(name, source, segments, algorithm, mask_for, tmp_path, errors_of):
    volume = source(name, BurnedInAnnotation="NO")
    secret_strings = {text.encode() for text in STRINGS}
    secret_strings |= {frame.dataset.SOPInstanceUID.encode() for frame in volume.frames}
    for number, made in enumerate(make(volume, mask_for(volume), segments, algorithm)):
        before, after = tmp_path / f"before{number}.dcm", tmp_path / f"after{number}.dcm"
        made.save_as(before)
        # The source's strings were there to be found.
        assert IDENTITY["PatientID"].encode() in before.read_bytes()
        cleaned = deidentified(made, SECRET)
        cleaned.save_as(after)
        content = after.read_bytes()
        assert [text for text in secret_strings if text in content] == []
        read = pydicom.dcmread(after)
        assert not read.PatientSex
        assert not own_uids(read) & own_uids(pydicom.dcmread(before))
        assert (read.PatientIdentityRemoved, read.DeidentificationMethodCodeSequence[0].CodeValue) == ("YES", "113100")
        assert read.file_meta.MediaStorageSOPInstanceUID == read.SOPInstanceUID
        assert errors_of(cleaned) == []
        # The object itself is as it was.
        assert made.PatientID == IDENTITY["PatientID"]


def test_references_still_hold(source, segments, algorithm, mask_for):
    volume = source("ct")
    plain = make(volume, mask_for(volume), segments, algorithm)
    seg, report, picture = (deidentified(made, SECRET) for made in plain)
    assert {seg.StudyInstanceUID, report.StudyInstanceUID, picture.StudyInstanceUID} == {seg.StudyInstanceUID}
    assert {seg.PatientID, report.PatientID, picture.PatientID} == {seg.PatientID}
    assert seg.PatientID.startswith("ANON-")
    assert seg.SOPInstanceUID in uids_in(report)
    shown = picture.SourceImageSequence[0].ReferencedSOPInstanceUID
    assert shown in {item.ReferencedSOPInstanceUID for item in seg.SourceImageSequence}
    assert len(seg.SourceImageSequence) == len(volume.frames)
    # The same again with the same secret, another with another.
    again, other = deidentified(plain[0], SECRET), deidentified(plain[0], "another")
    assert own_uids(again) == own_uids(seg)
    assert not own_uids(other) & own_uids(seg)


def test_the_measurements_stay(source, segments, algorithm, mask_for):
    volume = source("ct")
    report = make(volume, mask_for(volume), segments, algorithm)[1]
    values = [element.value for element in report.iterall() if element.keyword == "NumericValue"]
    cleaned = deidentified(report, SECRET)
    assert [element.value for element in cleaned.iterall() if element.keyword == "NumericValue"] == values != []
    assert algorithm.name in [element.value for element in cleaned.iterall() if element.keyword == "TextValue"]


@pytest.mark.parametrize("burned_in", ["YES", None])
def test_pictures_that_may_show_a_name_are_refused(burned_in, source, segments, algorithm, mask_for):
    volume = source("us", BurnedInAnnotation=burned_in)
    seg, _, picture = make(volume, mask_for(volume), segments, algorithm)
    with pytest.raises(DataError, match="does not say that no name is burned"):
        deidentified(picture, SECRET)
    assert deidentified(seg, SECRET).PatientIdentityRemoved == "YES"


def test_objects_of_others_are_refused(source):
    with pytest.raises(ConfigError, match="made are de-identified, got one by ACME"):
        deidentified(source("dx").first.dataset, SECRET)


def test_a_secret_is_needed(source, segments, algorithm, mask_for):
    volume = source("dx")
    with pytest.raises(ConfigError, match="needs a secret"):
        deidentified(segmentation(mask_for(volume), volume, segments, algorithm, CREATED), "")
