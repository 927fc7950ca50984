# SPDX-License-Identifier: Apache-2.0
"""Finds patients that are in the training and in the test sets of the same data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_sam2unet.bundle.folds import patients_of
from monai_sam2unet.bundle.labelled_cases import sets_of_part
from monai_sam2unet.data import RecognisedPictures, case_name
from monai_sam2unet.errors import DataError

__all__ = ["cases_for_tests", "sets_for_tests", "split_patients"]


def sets_for_tests(names: Sequence[str]) -> list[str]:
    """The sets that are meant for tests and not for training; none where all are meant for both.

    Args:
        names: of all sets.

    Example:
        >>> sets_for_tests(["imagesTr", "testing"]), sets_for_tests(["benign", "malignant"])
        (['testing'], [])
    """
    tests, training = (sets_of_part(names, part) for part in ("TestDataset", "TrainDataset"))
    return [] if set(tests) & set(training) else tests


def cases_for_tests(known: RecognisedPictures) -> list[Mapping[str, Any]]:
    """The cases of the sets for tests, with and without labels.

    Args:
        known: pictures or volumes.
    """
    chosen = sets_for_tests(list({**known.sets, **known.unlabelled}))
    labelled: list[Mapping[str, Any]] = [item for name in chosen for item in known.sets.get(name, [])]
    return labelled + [{"image": path} for name in chosen for path in known.unlabelled.get(name, [])]


def split_patients(
    training: Sequence[Mapping[str, Any]], tests: Sequence[Mapping[str, Any]], group_pattern: str | None
) -> list[str]:
    """Find patients that are in the training and in the test sets.

    Args:
        training: cases of the training sets, as :func:`monai_sam2unet.bundle.folds.leave_out_fold` takes them.
        tests: cases of the test sets.
        group_pattern: as in :func:`monai_sam2unet.bundle.folds.leave_out_fold`; None: only those cases count that have
            ``patient``.

    Returns:
        A line for each such patient, and one for a name that tells no patient.

    Raises:
        ConfigError: When the pattern is no regular expression.
    """
    if group_pattern is None:
        training, tests = ([item for item in cases if item.get("patient")] for cases in (training, tests))
    if not tests:
        return []
    try:
        first, second = (
            {patient: Path(case_name(found[0])).name for patient, found in patients_of(cases, group_pattern).items()}
            for cases in (training, tests)
        )
    except DataError as error:
        return [str(error)]
    return [
        f"{name}: this patient is in the training and in the test sets (as {first[name]} and {second[name]})"
        for name in sorted(first.keys() & second.keys())
    ]
