# SPDX-License-Identifier: Apache-2.0
"""Lists of volumes for the bundles' configs: training with a part held out, evaluation by set; and their slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.data import CacheDataset

from monai_sam2unet.bundle.folds import leave_out_fold, training_split
from monai_sam2unet.bundle.labelled_cases import Folders, labelled_volumes
from monai_sam2unet.bundle.volume_check import check_volumes
from monai_sam2unet.errors import DataError
from monai_sam2unet.transforms import Preset, SliceItem

__all__ = ["volume_evaluation_datalist", "volume_slices", "volume_training_datalist"]


def volume_training_datalist(
    dataset_dir: str | Path,
    preset: Preset,
    val_fraction: float = 0.1,
    seed: int = 0,
    sets: Sequence[str] | None = None,
    split_file: str | Path | None = None,
    max_cases: int | None = None,
    folders: Folders | None = None,
    allow_unlabelled: bool = False,
    fold: int | None = None,
    num_folds: int = 5,
    group_pattern: str | None = None,
) -> dict[str, list[dict[str, Any]]]:
    r"""Volumes to train on, and volumes held out of training for validation.

    Args:
        dataset_dir: a folder as :func:`monai_sam2unet.data.recognise_volumes` knows them, of which the sets for
            training are taken, where it has such.
        preset: which says what the labels hold.
        val_fraction: share of the patients held out, in (0, 1); at least one, and all but one at most.
        seed: of the random choice of the cases held out.
        sets: names of the sets to take; None takes all.
        split_file: a text file of names of cases, one a line: only these.
        max_cases: take only so many, chosen at random with the seed, held-out cases included; None takes all.
        folders: for layouts that are not known, ``{set: {"images": FOLDER, "masks": FOLDER}}`` below ``dataset_dir``.
        allow_unlabelled: whether images without a label are left out; else they are an error.
        fold: take no case of this one of ``num_folds`` parts, to be measured on; None takes all.
        num_folds: number of the parts.
        group_pattern: regular expression that finds the patient in an image's file name, as ``"patient(\d+)"``, so that
            no patient is in two parts; None: each image is a patient of its own.

    Returns:
        ``{"training": [...], "validation": [...]}`` with items ``{"image", "label", "dataset", "filename_or_obj"}``.

    Raises:
        ConfigError: When ``val_fraction`` is outside (0, 1), ``max_cases`` is below 2, ``folders`` is not as above, or
            ``fold`` or ``group_pattern`` is not allowed.
        DataError: When files are missing, unreadable, or do not pair; a label does not fit its image or the classes
            (all are told at once); there are fewer than two patients, or fewer than folds; or a name tells no patient.
    """
    items, problems = labelled_volumes(dataset_dir, "TrainDataset", sets, split_file, folders, allow_unlabelled)
    found = training_split(items, val_fraction, seed, max_cases, fold, num_folds, group_pattern)
    check_volumes([*found["training"], *found["validation"]], preset, problems)
    return found


def volume_evaluation_datalist(
    dataset_dir: str | Path,
    preset: Preset,
    sets: Sequence[str] | None = None,
    split_file: str | Path | None = None,
    folders: Folders | None = None,
    allow_unlabelled: bool = False,
    fold: int | None = None,
    num_folds: int = 5,
    group_pattern: str | None = None,
) -> list[dict[str, Any]]:
    """Volumes to measure on, set by set.

    Args:
        dataset_dir: a folder as :func:`monai_sam2unet.data.recognise_volumes` knows them, of which the sets for tests
            are taken, where it has such.
        preset: as in :func:`volume_training_datalist`.
        sets: names of the sets to take; None takes all.
        split_file: a text file of names of cases, one a line: only these.
        folders: as in :func:`volume_training_datalist`.
        allow_unlabelled: as there.
        fold: take the cases that a training with this fold leaves out, of the sets for training; None takes those for
            tests.
        num_folds: number of the parts.
        group_pattern: regular expression that finds the patient in an image's file name.

    Returns:
        Items ``{"image", "label", "dataset", "filename_or_obj"}``; of a label in several files their list.

    Raises:
        ConfigError: When ``folders`` is not as above, or ``fold`` or ``group_pattern`` is not allowed.
        DataError: As :func:`volume_training_datalist`.
    """
    part = "TestDataset" if fold is None else "TrainDataset"
    items, problems = labelled_volumes(dataset_dir, part, sets, split_file, folders, allow_unlabelled)
    if fold is not None:
        items = leave_out_fold(items, fold, num_folds, group_pattern)[1]
    check_volumes(items, preset, problems)
    return items


def volume_slices(
    items: Sequence[Mapping[str, Any]],
    preset: Preset,
    keep_empty: float | None = None,
    seed: int = 0,
    num_workers: int = 1,
) -> list[SliceItem]:
    """The slices of volumes, as the data of a dataset whose transform is ``preset.training()``.

    Each volume is read once and held in memory, image and label, at 8 bytes a voxel; the slices are views of it.

    Args:
        items: as :func:`volume_training_datalist` gives them.
        preset: loads the volumes and cuts them.
        keep_empty: share in [0, 1] of each volume's slices without any label that is kept; None keeps all.
        seed: of the choice among them.
        num_workers: how many volumes are read at the same time; 0 is one.

    Returns:
        A mapping a slice, volume after volume.

    Raises:
        ConfigError: When the share is outside [0, 1].
        DataError: When a volume cannot be read, or no slice is left.
    """
    cut = preset.slices(keep_empty, seed)
    volumes = CacheDataset(list(items), preset.volumes(), num_workers=max(1, num_workers), progress=False)
    slices = [piece for number in range(len(volumes)) for piece in cut(volumes[number])]
    if not slices:
        raise DataError(
            f"None of the {len(items)} volumes has a slice with a label, and keep_empty {keep_empty} keeps no other."
        )
    return slices
