# SPDX-License-Identifier: Apache-2.0
"""Tests of what classes are in DICOM."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydicom.sr._concepts_dict import concepts
from pydicom.sr.codedict import codes

from monai_sam2unet.dicom.segments import Segment, planned_segments, read_segments, segment_attributes, snomed_code
from monai_sam2unet.errors import ConfigError

BUNDLES = sorted((Path(__file__).parents[2] / "bundles").iterdir())


def test_a_plan_names_codes_by_their_keywords():
    kidney, lesion = planned_segments(
        ["kidney_left", "wound"], [{"type": "Kidney", "modifier": "Left", "rgb": [1, 2, 3]}, {"label": "A wound"}]
    )
    assert (kidney.number, kidney.label, kidney.colour) == (1, "Kidney left", (1, 2, 3))
    assert (kidney.type.value, kidney.type.meaning, kidney.modifier) == ("64033007", "Kidney", codes.SCT.Left)
    assert (lesion.number, lesion.label) == (2, "A wound")
    # What is not said is not made up: tissue, an anatomical structure.
    assert (lesion.category, lesion.type) == (codes.SCT.AnatomicalStructure, codes.SCT.Tissue)
    assert (lesion.region, lesion.modifier) == (None, None)


@pytest.mark.parametrize(
    ("planned", "told"),
    [
        ([{"type": "Livre"}, {}], "'Livre' is no keyword"),
        ([{"kind": "Liver"}, {}], "segments of a: unknown: kind. There are: label, description, category"),
        ([{"type": "Liver"}], "describes 1 classes; there are 2: a, b"),
        ([{"rgb": [0, 0, 256]}, {}], "three numbers of 0 to 255, got .0, 0, 256"),
        ([{"label": "x" * 65}, {}], "1 to 64 characters"),
    ],
)
def test_plans_that_are_refused(planned, told):
    with pytest.raises(ConfigError, match=told):
        planned_segments(["a", "b"], planned)


def test_metadata_are_read_as_they_were_written():
    segments = planned_segments(
        ["a", "b"], [{"type": "Liver", "description": "all of it"}, {"type": "Lesion", "region": "Breast"}]
    )
    assert read_segments(json.loads(json.dumps({"segmentAttributes": segment_attributes(segments)}))) == segments


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"labelID": 2}, "1, 2, 3, ... in order, got .2"),
        ({"SegmentLabel": None}, "SegmentLabel|label"),
        ({"SegmentedPropertyTypeCodeSequence": {"CodeValue": "1"}}, "must have CodeValue, CodingSchemeDesignator"),
        ({"SegmentedPropertyCategoryCodeSequence": None}, "are needed"),
        ({"recommendedDisplayRGBValue": [1, 2]}, "three numbers"),
    ],
)
def test_metadata_that_are_refused(change, told):
    [[item]] = segment_attributes([Segment(1, "Liver", type=snomed_code("Liver"))])
    with pytest.raises(ConfigError, match=told):
        read_segments({"segmentAttributes": [[{**item, **change}]]})


@pytest.mark.parametrize("metadata", [{}, {"segmentAttributes": []}, {"segmentAttributes": [[{"labelID": 1}], []]}])
def test_metadata_without_segments(metadata):
    with pytest.raises(ConfigError, match="need segmentAttributes"):
        read_segments(metadata)


@pytest.mark.parametrize("folder", BUNDLES, ids=lambda folder: folder.name)
def test_bundles_describe_all_their_classes_with_known_codes(folder):
    metadata = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
    segments = read_segments(metadata)
    output = metadata["network_data_format"]["outputs"]["pred"]
    assert len(segments) == max(1, output["num_channels"] - 1)
    known = {(code, meaning) for entry in concepts["SCT"].values() for code, (meaning, _) in entry.items()}
    for segment in segments:
        for code in filter(None, (segment.category, segment.type, segment.modifier, segment.region)):
            assert code.scheme_designator == "SCT"
            assert (code.value, code.meaning) in known
    assert len({segment.colour for segment in segments}) == len(segments)
    described = {(segment.type, segment.modifier) for segment in segments}
    assert len(described) == len(segments)
    assert codes.SCT.Tissue not in {segment.type for segment in segments}


def test_sides_of_the_organs_are_those_of_their_names():
    for name in ("abdominal_ct", "chest_xray_organs"):
        folder = next(folder for folder in BUNDLES if folder.name == f"{name}_segmentation")
        metadata = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
        names = list(metadata["network_data_format"]["outputs"]["pred"]["channel_def"].values())[1:]
        for segment, called in zip(read_segments(metadata), names, strict=True):
            side = next((side for side in ("left", "right") if side in called), None)
            assert (segment.modifier.meaning.lower() if segment.modifier else None) == side, called
