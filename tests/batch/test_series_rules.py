# SPDX-License-Identifier: Apache-2.0
"""Rules take and leave series as written, with the reason, and say what of a file is wrong."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monai_sam2unet.batch.refused import Refused
from monai_sam2unet.batch.series_job import ORIENTATIONS, SeriesJob
from monai_sam2unet.batch.series_rules import CONDITIONS, SeriesRules, chosen
from monai_sam2unet.errors import ConfigError


def job(modality="CT", description="Thorax 1.0 B70", slices=100, orientation="axial", **others):
    return SeriesJob("1.2", "1.2", "1", modality, description, (), slices, 0, orientation, **others)


FILE = """
rules:
  - leave: {image_type: localizer}
  - leave: {description: ["b70", "lung$"]}
  - take: {modality: [ct, PT], slices: {min: 20, max: 500}, orientation: [axial, oblique], body_part: CHEST}
  - take: {modality: MR}
default: leave
"""


@pytest.mark.parametrize(
    ("series", "take", "reason"),
    [
        (job(image_type=("ORIGINAL", "PRIMARY", "LOCALIZER")), False, "rule 1 leaves image type localizer"),
        (job(), False, "rule 2 leaves description like b70 or lung$"),
        (job(description="Lung"), False, "rule 2 leaves"),
        (job(description="soft", body_part="Chest"), True, "rule 3 takes modality ct or PT, 20 slices or more and 500"),
        (job(description="", slices=19, body_part="CHEST"), False, "rule 3 needs 20 slices or more and 500 slices or"),
        (
            job(description="", orientation="coronal"),
            False,
            "rule 3 needs orientation axial or oblique, it has coronal",
        ),
        (job(description="", orientation=""), False, "it has none; rule 4 needs modality MR, it has CT"),
        (job("MR", "", 3), True, "rule 4 takes modality MR"),
    ],
)
def test_the_first_rule_that_fits_decides(tmp_path, series, take, reason):
    path = tmp_path / "rules.yaml"
    path.write_text(FILE)
    decision = SeriesRules.from_yaml(path).decide(series)
    assert (decision.take, reason in decision.reason) == (take, True), decision


def test_the_default(tmp_path):
    for content, take in (({}, False), ({"default": "take"}, True), ({"rules": [{"take": {}}]}, True)):
        assert SeriesRules(content).decide(job()).take is take
    (tmp_path / "empty.yaml").write_text("")
    assert not SeriesRules.from_yaml(tmp_path / "empty.yaml").decide(job()).take


def test_what_a_bundle_takes():
    rules = SeriesRules.for_modalities(["CR", "DX"])
    assert [rules.decide(job(modality)).take for modality in ("CR", "dx", "CT", "")] == [True, True, False, False]
    assert not rules.decide(job("CR", image_type=("DERIVED", "LOCALIZER"))).take
    assert SeriesRules.for_modalities(None).decide(job("CT")).take


WHY = "no rule fits it: rule 2 needs modality CT, it has MR"


def test_what_is_left_says_why():
    refused = Refused("a.dcm", "it is damaged")
    taken, left = job("CT"), job("MR")
    found = list(chosen([refused, taken, left], SeriesRules.for_modalities(["CT"])))
    assert found == [
        refused,
        taken,
        Refused(left.key, f"{WHY} (these rules are the bundle's; --rules brings others)", left.series_uid),
    ]


def test_all_problems_are_told_at_once():
    content = {
        "rules": [
            {"take": {"modalty": "CT"}},
            {"take": {"slices": {"min": 5, "max": 2}}},
            {"take": {"slices": 5}},
            {"skip": {}},
            {"take": {"orientation": "diagonal"}},
            {"leave": {"description": "("}},
            {"take": "CT"},
            {"take": {"modality": []}},
        ],
        "defaults": "take",
        "default": "keep",
    }
    with pytest.raises(ConfigError) as error:
        SeriesRules(content, "my.yaml")
    text = str(error.value)
    for part in (
        "my.yaml",
        "'defaults' is no key; allowed are rules and default",
        "default must be take or leave, got 'keep'",
        "rule 1: 'modalty' is no condition; allowed are modality, description, slices",
        "rule 2: slices must have min, max or both",
        "rule 3: slices must have min",
        "rule 4 must be take or leave",
        f"rule 5: orientation must be one of {', '.join(ORIENTATIONS)}, got diagonal",
        "rule 6: description missing )",
        "rule 7: take must have conditions",
        "rule 8: modality must be a text or a list of texts",
    ):
        assert part in text, part


@pytest.mark.parametrize("text", ["rules: [", "- take", "\x00", "rules: {a: 1}"])
def test_files_that_hold_no_rules(tmp_path, text):
    (tmp_path / "rules.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"rules\.yaml"):
        SeriesRules.from_yaml(tmp_path / "rules.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        SeriesRules.from_yaml(tmp_path / "nothing.yaml")


NAMES = st.sampled_from(["CT", "MR", "US"])
SERIES = st.builds(job, NAMES, st.text(max_size=5), st.integers(0, 40), st.sampled_from(["", *ORIENTATIONS]))
RULES = st.lists(st.tuples(st.sampled_from(["take", "leave"]), NAMES, st.integers(0, 40)), max_size=4)


@settings(deadline=None)
@given(SERIES, RULES, st.sampled_from(["take", "leave"]))
def test_rules_are_those_of_an_if_chain(series, rules, default):
    expected = default == "take"
    for action, modality, low in reversed(rules):
        if series.modality == modality and series.slices >= low:
            expected = action == "take"
    content = {"rules": [{a: {"modality": m, "slices": {"min": low}}} for a, m, low in rules], "default": default}
    decision = SeriesRules(content).decide(series)
    assert decision.take is expected
    assert decision.reason


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([*CONDITIONS, "x"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=4),
            lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
            max_leaves=4,
        ),
    ),
    SERIES,
)
def test_whatever_is_written_is_rules_or_an_error(conditions, series):
    try:
        rules = SeriesRules({"rules": [{"take": conditions}]})
    except ConfigError:
        return
    assert rules.decide(series).reason
