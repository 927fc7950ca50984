# SPDX-License-Identifier: Apache-2.0
"""Parts of a data set that share no patient: folds to measure on, and a part held out for validation."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.data import partition_dataset

from monai_sam2unet.data import case_name
from monai_sam2unet.errors import ConfigError, DataError

__all__ = ["hold_out", "leave_out_fold", "patients_of", "training_split"]

logger = logging.getLogger(__name__)

Items = Sequence[Mapping[str, Any]]
#: Folds are the same for every training, whatever its seed.
_FOLD_SEED = 0


def _groups(items: Items, group_pattern: str | None) -> dict[str, list[Mapping[str, Any]]]:
    """Items by patient, in the order of the patients' names; without a pattern and PatientID each by itself."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    try:
        pattern = None if group_pattern is None else re.compile(group_pattern)
    except re.error as error:
        raise ConfigError(f"group_pattern {group_pattern!r} is no regular expression: {error}.") from error
    are_known = bool(items) and all(item.get("patient") for item in items)
    # A pattern for other data says nothing of these; one that tells some of them apart must tell all.
    if pattern is not None and are_known and not any(pattern.search(str(item["case"])) for item in items):
        logger.warning(
            f"group_pattern {group_pattern!r} is passed over, for it finds no patient in any of the {len(items)} "
            f"series' paths, as {items[0]['case']}: PatientID tells the patients."
        )
        pattern = None
    for item in items:
        name = str(item.get("case") or Path(case_name(item)).name)
        found = None if pattern is None else pattern.search(name)
        if pattern is not None and found is None:
            raise DataError(
                f"group_pattern {group_pattern!r} finds no patient in the name of {case_name(item)}. Give another one "
                "(`--group_pattern`); '.+' takes each name for a patient of its own."
            )
        own = str(item.get("patient") or case_name(item))
        groups.setdefault(own if found is None else _patient(found), []).append(item)
    return dict(sorted(groups.items()))


def _patient(found: re.Match[str]) -> str:
    """The first group that took part: either of ``patient([0-9]+)|case([0-9]+)`` may; else the whole match."""
    return next((group for group in found.groups() if group is not None), found.group())


def patients_of(items: Items, group_pattern: str | None) -> dict[str, list[Mapping[str, Any]]]:
    """The patients of cases, each with its cases.

    Args:
        items: as in :func:`leave_out_fold`.
        group_pattern: as there.

    Raises:
        ConfigError: When the pattern is no regular expression.
        DataError: When it finds no patient in a name.
    """
    return _groups(items, group_pattern)


def leave_out_fold(
    items: Items, fold: int, num_folds: int = 5, group_pattern: str | None = None
) -> tuple[list[Any], list[Any]]:
    r"""Split cases into those of all other folds, and those of one.

    The patients, in the order of their names, are dealt out to the folds at random, the same way each time.

    Args:
        items: cases with ``image``, a path. Of DICOM, where it is a list, they have ``filename_or_obj``, what the case
            is called, ``case``, its path below the data's folder, and ``patient``, its PatientID.
        fold: the one left out, from 0.
        num_folds: how many there are, at least 2.
        group_pattern: regular expression that finds the patient in an image's file name, or in the ``case``, as
            ``"patient(\d+)"``: what the first of its groups matches that takes part in the match, or where none does,
            the whole match. None, or where it matches no ``case`` at all (a warning says so): ``patient`` tells it;
            without one each image is a patient of its own.

    Returns:
        The cases to train on, and those of the fold.

    Raises:
        ConfigError: When ``fold`` is not one of ``num_folds``, or the pattern is no regular expression.
        DataError: When there are fewer patients than folds, or the pattern finds none in a name.

    Example:
        >>> cases = [{"image": f"Image_{n:02}{eye}.jpg"} for n in range(5) for eye in "LR"]
        >>> others, own = leave_out_fold(cases, 0, group_pattern=r"Image_(\d+)")
        >>> len(others), [item["image"] for item in own]
        (8, ['Image_02L.jpg', 'Image_02R.jpg'])
    """
    if num_folds < 2 or fold not in range(num_folds):
        raise ConfigError(f"The fold must be one of 0 to {num_folds - 1}, of at least 2; got {fold} of {num_folds}.")
    groups = _groups(items, group_pattern)
    if len(groups) < num_folds:
        raise DataError(f"{len(groups)} patients are too few for {num_folds} folds.{_hint(items, group_pattern)}")
    own = set(partition_dataset(list(groups), num_partitions=num_folds, shuffle=True, seed=_FOLD_SEED)[fold])
    others = [item for name, part in groups.items() if name not in own for item in part]
    return others, [item for name, part in groups.items() if name in own for item in part]


def _hint(items: Items, group_pattern: str | None) -> str:
    if group_pattern is not None or not any(item.get("patient") for item in items):
        return ""
    return " Where PatientID tells patients wrongly, set `--group_pattern`; '.+' takes each series for a patient."


def hold_out(items: Items, fraction: float, seed: int = 0, group_pattern: str | None = None) -> tuple[list, list]:
    """Split cases at random into a large part and a small one that share no patient.

    Args:
        items: cases with ``image``, a path.
        fraction: share of the patients in the small part, in (0, 1); at least one, and all but one at most.
        seed: of the choice.
        group_pattern: as in :func:`leave_out_fold`.

    Returns:
        The large part, and the small one.

    Raises:
        ConfigError: When the fraction is outside (0, 1), or the pattern is no regular expression.
        DataError: When there is only one patient, or the pattern finds none in a name.
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"val_fraction must lie between 0 and 1, got {fraction}.")
    grouped = group_pattern or any(item.get("patient") for item in items)
    groups = list(_groups(items, group_pattern).values()) if grouped else [[item] for item in items]
    if len(groups) < 2:
        raise DataError(
            "There is only one image, or images of one patient only; one more is needed, to validate on."
            f"{_hint(items, group_pattern)}"
        )
    count = min(max(1, round(fraction * len(groups))), len(groups) - 1)
    small, large = partition_dataset(groups, ratios=[count, len(groups) - count], shuffle=True, seed=seed)
    return [item for group in large for item in group], [item for group in small for item in group]


def training_split(
    items: Items,
    val_fraction: float,
    seed: int = 0,
    max_cases: int | None = None,
    fold: int | None = None,
    num_folds: int = 5,
    group_pattern: str | None = None,
) -> dict[str, list[Any]]:
    """Cases to train on and cases to validate on, of those that a fold and a number leave.

    Args:
        items: cases with ``image``, a path.
        val_fraction: as in :func:`hold_out`.
        seed: of the choice of cases.
        max_cases: take only so many, chosen at random, those held out included; None takes all.
        fold: as in :func:`leave_out_fold`; None leaves none out.
        num_folds: as there.
        group_pattern: as there.

    Returns:
        ``{"training": [...], "validation": [...]}``.

    Raises:
        ConfigError: As :func:`hold_out` and :func:`leave_out_fold`; or when ``max_cases`` is below 2.
        DataError: As there.
    """
    if max_cases is not None and max_cases < 2:
        raise ConfigError(f"max_cases must be at least 2, got {max_cases}.")
    if fold is not None:
        items = leave_out_fold(items, fold, num_folds, group_pattern)[0]
    if max_cases is not None and max_cases < len(items):
        ratios = [max_cases, len(items) - max_cases]
        items = partition_dataset(list(items), ratios=ratios, shuffle=True, seed=seed)[0]
    training, validation = hold_out(items, val_fraction, seed, group_pattern)
    return {"training": training, "validation": validation}
