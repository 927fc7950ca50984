# SPDX-License-Identifier: Apache-2.0
"""Lists of cases for the bundles' configs: training with a part held out, evaluation by set, inference."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist

from monai_sam2unet.bundle.folds import leave_out_fold, training_split
from monai_sam2unet.bundle.labelled_cases import Folders, labelled_cases
from monai_sam2unet.data import IMAGE_SUFFIXES, check_pairs, list_images, other_files, split_readable
from monai_sam2unet.errors import DataError, listing

__all__ = ["evaluation_datalist", "fail_on_rejected", "inference_datalist", "training_datalist"]

logger = logging.getLogger(__name__)


def training_datalist(
    dataset_dir: str | Path,
    val_fraction: float = 0.1,
    seed: int = 0,
    sets: Sequence[str] | None = None,
    split_file: str | Path | None = None,
    max_cases: int | None = None,
    mask_threshold: float | None = 127.5,
    folders: Folders | None = None,
    allow_unlabelled: bool = False,
    fold: int | None = None,
    num_folds: int = 5,
    group_pattern: str | None = None,
    class_names: Sequence[str] | None = None,
    picture: str = "rgb",
) -> dict[str, list[dict[str, Any]]]:
    r"""Cases to train on, and cases held out of training for validation.

    Args:
        dataset_dir: a public set as :func:`monai_sam2unet.data.recognise_pictures` knows them, of which the sets for
            training are taken; or a folder as :func:`monai_sam2unet.data.find_sets` knows them, of which those are
            taken, too: of PraNet's layout ``TrainDataset``.
        val_fraction: share of the patients held out, in (0, 1); at least one, and all but one at most.
        seed: of the random choice of the cases held out.
        sets: names of the sets to take; None takes all of the part.
        split_file: a text file of stems, one a line: only these cases.
        max_cases: take only so many, chosen at random with the seed, held-out cases included; None takes all.
        mask_threshold: mask values from this one on (of 255) are foreground; None: masks hold class indices.
        folders: for layouts that are not known, ``{set: {"images": FOLDER, "masks": FOLDER}}`` below ``dataset_dir``.
            Images may lie in folders below; their masks then lie in folders of the same names. None finds the sets.
        allow_unlabelled: whether images without a mask are left out, of the public sets that have such (Shenzhen), as
            :func:`monai_sam2unet.data.recognise_pictures` knows them; else they are an error.
        fold: take no case of this one of ``num_folds`` parts, to be measured on; None takes all.
        num_folds: number of the parts.
        group_pattern: regular expression that finds the patient in an image's file name, as ``"patient(\d+)"``, so that
            no patient is in two parts; None: each image is a patient of its own.
        class_names: names of the classes, where masks hold their indices from 1 on.
        picture: how images are read: ``"rgb"``, 8 bits a channel, or ``"gray"``, 8 or 16 bits.

    Returns:
        ``{"training": [...], "validation": [...]}`` with items ``{"image", "label", "dataset", "filename_or_obj"}``.

    Raises:
        ConfigError: When ``val_fraction`` is outside (0, 1), ``max_cases`` is below 2, ``folders`` is not as above, or
            ``fold`` or ``group_pattern`` is not allowed; or there are both or neither of ``mask_threshold`` and
            ``class_names``.
        DataError: When files are missing, unreadable, or do not pair; masks have values above the classes; there are
            fewer than two patients, or fewer than folds; a file's name tells no patient; or, in distributed training,
            one part has fewer cases than there are processes.
    """
    items = labelled_cases(dataset_dir, "TrainDataset", sets, split_file, folders, allow_unlabelled)
    found = training_split(items, val_fraction, seed, max_cases, fold, num_folds, group_pattern)
    training, validation = found["training"], found["validation"]
    num_classes = None if class_names is None else len(class_names)
    check_pairs([*training, *validation], mask_threshold=mask_threshold, num_classes=num_classes, picture=picture)
    processes = idist.get_world_size()
    if min(len(training), len(validation)) < processes:
        raise DataError(
            f"{len(training)} images to train on and {len(validation)} held out are too few for {processes} "
            "processes; take a larger `--val_fraction`, more images, or fewer processes."
        )
    return found


def evaluation_datalist(
    dataset_dir: str | Path,
    sets: Sequence[str] | None = None,
    split_file: str | Path | None = None,
    mask_threshold: float | None = 127.5,
    folders: Folders | None = None,
    allow_unlabelled: bool = False,
    fold: int | None = None,
    num_folds: int = 5,
    group_pattern: str | None = None,
    class_names: Sequence[str] | None = None,
    picture: str = "rgb",
) -> list[dict[str, Any]]:
    """Cases to measure on, set by set.

    Args:
        dataset_dir: a public set as :func:`monai_sam2unet.data.recognise_pictures` knows them, of which the sets for
            tests are taken, where it has such; or a folder as :func:`monai_sam2unet.data.find_sets` knows them, of
            which those are taken, too: of PraNet's layout ``TestDataset``.
        sets: names of the sets to take; None takes all of the part.
        split_file: a text file of stems, one a line: only these cases.
        mask_threshold: mask values from this one on (of 255) are foreground; None: masks hold class indices.
        folders: for layouts that are not known, ``{set: {"images": FOLDER, "masks": FOLDER}}`` below ``dataset_dir``.
            Images may lie in folders below; their masks then lie in folders of the same names. None finds the sets.
        allow_unlabelled: whether images without a mask are left out, of the public sets that have such (Shenzhen), as
            :func:`monai_sam2unet.data.recognise_pictures` knows them; else they are an error.
        fold: take the cases that a training with this fold leaves out, of the sets for training; None takes those for
            tests.
        num_folds: number of the parts.
        group_pattern: regular expression that finds the patient in an image's file name.
        class_names: as in :func:`training_datalist`.
        picture: as in :func:`training_datalist`.

    Returns:
        Items ``{"image", "label", "dataset", "filename_or_obj"}``; of a mask in several files ``label`` is their list.

    Raises:
        ConfigError: When ``folders`` is not as above, or ``fold`` or ``group_pattern`` is not allowed.
        DataError: When a set or files are missing, unreadable, or do not pair; or there are fewer patients than folds.
    """
    part = "TestDataset" if fold is None else "TrainDataset"
    items = labelled_cases(dataset_dir, part, sets, split_file, folders, allow_unlabelled)
    if fold is not None:
        items = leave_out_fold(items, fold, num_folds, group_pattern)[1]
    num_classes = None if class_names is None else len(class_names)
    check_pairs(items, mask_threshold=mask_threshold, num_classes=num_classes, picture=picture)
    return items


def inference_datalist(
    dataset_dir: str | Path, output_dir: str | Path | None = None, picture: str = "rgb"
) -> dict[str, list]:
    """Images to predict: all below a folder, or a single file.

    Files of types that are not read are passed over, which a warning says.

    Args:
        dataset_dir: a folder, searched at any depth, or an image file.
        output_dir: where predictions are written; what earlier runs wrote there is left out.
        picture: as in :func:`training_datalist`.

    Returns:
        ``{"cases": [{"image": path}, ...], "rejected": [line, ...]}``; the lines name unreadable images and say why.

    Raises:
        DataError: When there is no image, or none that can be read.
    """
    path = Path(dataset_dir)
    images = [path] if path.is_file() else list_images(path, recursive=True)
    others = other_files(path) if path.is_dir() else []
    if output_dir is not None and path.is_dir():
        own = {Path(output_dir).resolve() / folder for folder in ("masks", "overlays")}
        images, others = (
            [file for file in files if not own & set(file.resolve().parents)] for files in (images, others)
        )
    if others:
        names = listing([str(other) for other in others])
        logger.warning(
            f"Passed over, for they are none of {', '.join(IMAGE_SUFFIXES)}: convert what is meant.\n{names}"
        )
    readable, rejected = split_readable(images, picture=picture)
    if not readable:
        raise DataError(f"None of the images in {path} can be read:\n{listing(rejected)}")
    return {"cases": [{"image": name} for name in readable], "rejected": rejected}


def fail_on_rejected(rejected: Sequence[str]) -> None:
    """End a run that did all it could with an error that names what it could not do.

    Args:
        rejected: a line for each image left out.

    Raises:
        DataError: When there is such a line.
    """
    if rejected:
        raise DataError(f"All other images are done, but {len(rejected)} could not be read:\n{listing(rejected)}")
