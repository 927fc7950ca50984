# SPDX-License-Identifier: Apache-2.0
"""Conditions on series."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from monai_sam2unet.batch.sources.dicomweb_query import parse_source, parse_where, unmet
from monai_sam2unet.errors import ConfigError


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        ("Modalty=CT", "Modalty is no keyword or tag .* Did you mean Modality"),
        ("modality=CT", "Did you mean Modality"),
        ("00081234=CT", "00081234 is no keyword or tag"),
        ("Modality", "is not KEYWORD=VALUE"),
        ("Modality=", "is not KEYWORD=VALUE"),
        ("Modality=ct", "so Modality=CT"),
        ("StudyDate=2026-01-01", "a date is YYYYMMDD"),
        ("StudyDate=20261301", "a date is YYYYMMDD"),
        ("StudyDate=-", "a date is YYYYMMDD"),
        ("StudyDate=20260201-20260101", "ends before it starts"),
        ("SeriesInstanceUID=1.2.x", "digits and points"),
        ("PixelData=1", "no value that a series can be looked for by"),
        ("ReferencedImageSequence=1", "no value that a series can be looked for by"),
    ],
)
def test_conditions_that_are_refused(condition: str, told: str):
    with pytest.raises(ConfigError, match=told):
        parse_where([condition])


def test_all_problems_are_told_at_once():
    with pytest.raises(ConfigError, match=r"(?s)Modalty.*StudyDate.*PatientID is given twice"):
        parse_where(["Modalty=CT", "StudyDate=x", "PatientID=1", "PatientID=2"])


def test_values_are_kept():
    where = ["PatientName=A=B", "00080020=20260101-", "SeriesInstanceUID=1.2,1.3"]
    assert parse_where(where) == {"PatientName": "A=B", "StudyDate": "20260101-", "SeriesInstanceUID": "1.2,1.3"}


@pytest.mark.parametrize(
    ("where", "answer", "met"),
    [
        ({"Modality": "CT"}, {"Modality": "CT"}, True),
        ({"Modality": "C*"}, {"Modality": "CT"}, True),
        ({"Modality": "?R"}, {"Modality": "CT"}, False),
        ({"ImageType": "PRIMARY"}, {"ImageType": ["ORIGINAL", "PRIMARY"]}, True),
        ({"StudyDate": "20260101-20260131"}, {"StudyDate": "20260131"}, True),
        ({"StudyDate": "-20260131"}, {"StudyDate": "20260201"}, False),
        ({"StudyDate": "20260131"}, {"StudyDate": "20260201"}, False),
        ({"SeriesInstanceUID": "1.2,1.3"}, {"SeriesInstanceUID": "1.3"}, True),
        ({"SeriesInstanceUID": "1.2"}, {"SeriesInstanceUID": "1.22"}, False),
        ({"Modality": "CT"}, {}, True),
        ({"PatientName": "someone"}, {"PatientName": "Some^One"}, True),
    ],
)
def test_answers_are_compared_with_conditions(where: dict[str, str], answer: dict, met: bool):
    dataset = Dataset()
    for keyword, value in answer.items():
        setattr(dataset, keyword, value)
    assert (unmet(where, dataset) is None) == met


@pytest.mark.parametrize(
    "source", ["dicomweb:host", "dicomweb:ftp://host", "dicomweb:https://host/studies/1.2/rendered"]
)
def test_sources_that_are_refused(source: str):
    with pytest.raises(ConfigError, match="address"):
        parse_source(source)
