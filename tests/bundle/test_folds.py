# SPDX-License-Identifier: Apache-2.0
"""Tests of parts that share no patient."""

from __future__ import annotations

import pytest

from monai_sam2unet.bundle.folds import hold_out, leave_out_fold, patients_of
from monai_sam2unet.errors import ConfigError, DataError

PATTERN = r"patient(\d+)"
CASES = [{"image": f"set/patient{n:03}_frame{k}.nii.gz", "label": "x"} for n in range(12) for k in range(1 + n % 3)]


def patients(items):
    return {item["image"].split("_")[0] for item in items}


def test_folds_cover_all_and_share_no_patient():
    folds = [leave_out_fold(CASES, fold, 5, PATTERN) for fold in range(5)]
    assert sorted(item["image"] for _, own in folds for item in own) == sorted(item["image"] for item in CASES)
    for others, own in folds:
        assert len(others) + len(own) == len(CASES)
        assert not patients(others) & patients(own)
        assert len(patients(own)) in (2, 3)


def test_folds_do_not_depend_on_the_order_of_the_cases():
    first, second = (leave_out_fold(cases, 1, 4, PATTERN)[1] for cases in (CASES, CASES[::-1]))
    assert patients(first) == patients(second)


def test_without_pattern_each_image_stands_alone():
    sizes = [len(leave_out_fold(CASES, fold, 4)[1]) for fold in range(4)]
    assert sum(sizes) == len(CASES)
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("pattern", [r"patient\d+", PATTERN])
def test_a_pattern_with_and_without_group(pattern):
    assert leave_out_fold(CASES, 0, 3, pattern) == leave_out_fold(CASES, 0, 3, PATTERN)


def test_a_group_that_takes_no_part_is_passed_over():
    names = ("patient1_a", "patient1_b", "case2_a", "case2_b", "other_a")
    cases = [{"image": f"{name}.png"} for name in names]
    found = patients_of(cases, r"patient(\d+)|case(\d+)|other(\d+)?")
    assert {patient: len(own) for patient, own in found.items()} == {"1": 2, "2": 2, "other": 1}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"fold": 5}, ConfigError, "one of 0 to 4.* got 5 of 5"),
        ({"fold": -1}, ConfigError, "got -1 of 5"),
        ({"fold": 0, "num_folds": 1}, ConfigError, "at least 2"),
        ({"fold": 0, "group_pattern": "("}, ConfigError, "no regular expression"),
        ({"fold": 0, "group_pattern": r"case\d"}, DataError, "finds no patient in the name of set/patient000_frame0"),
        ({"fold": 0, "num_folds": 13, "group_pattern": PATTERN}, DataError, "12 patients are too few for 13 folds"),
    ],
)
def test_what_cannot_be_split(options, error, message):
    with pytest.raises(error, match=message):
        leave_out_fold(CASES, **options)


@pytest.mark.parametrize(("fraction", "count"), [(0.1, 1), (0.5, 6), (0.01, 1), (0.99, 11)])
def test_held_out_patients(fraction, count):
    large, small = hold_out(CASES, fraction, seed=3, group_pattern=PATTERN)
    assert len(patients(small)) == count
    assert not patients(large) & patients(small)
    assert len(large) + len(small) == len(CASES)
    assert hold_out(CASES, fraction, seed=3, group_pattern=PATTERN) == (large, small)


def test_one_patient_cannot_be_held_out():
    with pytest.raises(DataError, match="images of one patient only"):
        hold_out(CASES[1:3], 0.5, group_pattern=PATTERN)
