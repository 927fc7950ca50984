# SPDX-License-Identifier: Apache-2.0
"""Finds patients that are in the training and in the test sets of the same data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from monai_sam2unet.bundle.folds import patients_of
from monai_sam2unet.bundle.labelled_cases import sets_of_part
from monai_sam2unet.data import RecognisedPictures
from monai_sam2unet.errors import DataError

__all__ = ["images_for_tests", "sets_for_tests", "split_patients"]


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


def images_for_tests(known: RecognisedPictures) -> list[str]:
    """The images of the sets for tests, with and without labels.

    Args:
        known: pictures or volumes.
    """
    chosen = sets_for_tests(list({**known.sets, **known.unlabelled}))
    labelled = [str(item["image"]) for name in chosen for item in known.sets.get(name, [])]
    return labelled + [path for name in chosen for path in known.unlabelled.get(name, [])]


def split_patients(training: Sequence[str], tests: Sequence[str], group_pattern: str | None) -> list[str]:
    """Find patients that are in the training and in the test sets.

    Args:
        training: images of the training sets.
        tests: images of the test sets.
        group_pattern: as in :func:`monai_sam2unet.bundle.folds.leave_out_fold`; None: nothing is found.

    Returns:
        A line for each such patient, and one for a name that tells no patient.

    Raises:
        ConfigError: When the pattern is no regular expression.
    """
    if group_pattern is None or not tests:
        return []
    try:
        first, second = (
            {patient: Path(paths[0]).name for patient, paths in patients_of(images, group_pattern).items()}
            for images in (training, tests)
        )
    except DataError as error:
        return [str(error)]
    return [
        f"{name}: this patient is in the training and in the test sets (as {first[name]} and {second[name]})"
        for name in sorted(first.keys() & second.keys())
    ]
