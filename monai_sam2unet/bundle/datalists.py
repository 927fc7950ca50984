# SPDX-License-Identifier: Apache-2.0
"""Lists of cases for the bundles' configs: training with a part held out, evaluation by set, inference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import ignite.distributed as idist
from monai.data import partition_dataset

from monai_sam2unet.data import (
    check_pairs,
    find_sets,
    given_sets,
    list_images,
    pair_by_stem,
    read_split,
    split_readable,
    stem_below,
)
from monai_sam2unet.errors import ConfigError, DataError, listing

__all__ = ["evaluation_datalist", "fail_on_rejected", "inference_datalist", "training_datalist"]

Folders = Mapping[str, Mapping[str, str | Path]]


def _chosen_sets(
    dataset_dir: str | Path, part: str, names: Sequence[str] | None, folders: Folders | None
) -> dict[str, tuple[Path, Path]]:
    """Folders of images and of masks of the sets named, or of all; they exist."""
    found = find_sets(dataset_dir, part) if folders is None else given_sets(dataset_dir, folders)
    names = list(found) if names is None else [names] if isinstance(names, str) else names
    unknown = [name for name in names if name not in found]
    if unknown:
        raise DataError(f"There is no set {', '.join(unknown)} in {dataset_dir}. It has: {', '.join(found)}.")
    chosen = {name: pair for name, pair in found.items() if name in names}
    absent = [
        f"{kind} of {name}: {folder}"
        for name, pair in chosen.items()
        for kind, folder in zip(("images", "masks"), pair, strict=True)
        if not folder.is_dir()
    ]
    if absent:
        raise DataError(
            "Folders that the config names are not there. Unpack the sets so, give their folders in a config, or name "
            f"the sets to take (`--train_sets`, `--test_sets`):\n{listing(absent)}"
        )
    return chosen


def _labelled(
    dataset_dir: str | Path,
    part: str,
    sets: Sequence[str] | None,
    split_file: str | Path | None,
    folders: Folders | None,
) -> list[dict[str, str]]:
    """Pairs of the chosen sets, each item with its set's name under ``dataset``."""
    chosen = _chosen_sets(dataset_dir, part, sets, folders)
    recursive = folders is not None
    stems = None if split_file is None else read_split(split_file)
    missing = set(stems or ())
    items = []
    for name, (images, masks) in chosen.items():
        wanted = None
        if stems is not None:
            present = {stem_below(p, folder) for folder in (images, masks) for p in list_images(folder, recursive)}
            wanted = [stem for stem in stems if stem in present]
            missing -= present
        pairs = pair_by_stem(images, masks, wanted, recursive)
        # Under the key by which MONAI's MetricsSaver names the rows of its files.
        items += [{**pair, "dataset": name, "filename_or_obj": pair["image"]} for pair in pairs]
    if missing:
        raise DataError(f"{split_file} names images that are in none of the sets:\n{listing(sorted(missing))}")
    if not items:
        raise DataError(f"No image of {dataset_dir} is chosen.")
    return items


def training_datalist(
    dataset_dir: str | Path,
    val_fraction: float = 0.1,
    seed: int = 0,
    sets: Sequence[str] | None = None,
    split_file: str | Path | None = None,
    max_cases: int | None = None,
    mask_threshold: float = 127.5,
    folders: Folders | None = None,
) -> dict[str, list[dict[str, str]]]:
    """Cases to train on, and cases held out of training for validation.

    Args:
        dataset_dir: a folder as :func:`monai_sam2unet.data.find_sets` knows them; of PraNet's layout, ``TrainDataset``.
        val_fraction: share held out, in (0, 1); at least one case, and all but one at most.
        seed: of the random choice of the cases held out.
        sets: names of the sets to take; None takes all.
        split_file: a text file of stems, one a line: only these cases.
        max_cases: take only so many, chosen at random with the seed, held-out cases included; None takes all.
        mask_threshold: mask values from this one on (of 255) are foreground.
        folders: for layouts that are not known, ``{set: {"images": FOLDER, "masks": FOLDER}}`` below ``dataset_dir``.
            Images may lie in folders below; their masks then lie in folders of the same names. None finds the sets.

    Returns:
        ``{"training": [...], "validation": [...]}`` with items ``{"image", "label", "dataset", "filename_or_obj"}``.

    Raises:
        ConfigError: When ``val_fraction`` is outside (0, 1), ``max_cases`` is below 2, or ``folders`` is not as above.
        DataError: When files are missing, unreadable, or do not pair; there are fewer than two cases; or, in
            distributed training, one part has fewer cases than there are processes.
    """
    if not 0 < val_fraction < 1:
        raise ConfigError(f"val_fraction must lie between 0 and 1, got {val_fraction}.")
    if max_cases is not None and max_cases < 2:
        raise ConfigError(f"max_cases must be at least 2, got {max_cases}.")
    items = _labelled(dataset_dir, "TrainDataset", sets, split_file, folders)
    if len(items) < 2:
        raise DataError(f"There is only one image in {dataset_dir}; training needs one more, to validate on.")
    if max_cases is not None and max_cases < len(items):
        items = partition_dataset(items, ratios=[max_cases, len(items) - max_cases], shuffle=True, seed=seed)[0]
    check_pairs(items, mask_threshold=mask_threshold)
    held_out = min(max(1, round(val_fraction * len(items))), len(items) - 1)
    processes = idist.get_world_size()
    if min(held_out, len(items) - held_out) < processes:
        raise DataError(
            f"{len(items) - held_out} images to train on and {held_out} held out are too few for {processes} "
            "processes; take a larger `--val_fraction`, more images, or fewer processes."
        )
    validation, training = partition_dataset(items, ratios=[held_out, len(items) - held_out], shuffle=True, seed=seed)
    return {"training": training, "validation": validation}


def evaluation_datalist(
    dataset_dir: str | Path,
    sets: Sequence[str] | None = None,
    split_file: str | Path | None = None,
    mask_threshold: float = 127.5,
    folders: Folders | None = None,
) -> list[dict[str, str]]:
    """Cases to measure on, set by set.

    Args:
        dataset_dir: a folder as :func:`monai_sam2unet.data.find_sets` knows them; of PraNet's layout, ``TestDataset``.
        sets: names of the sets to take; None takes all.
        split_file: a text file of stems, one a line: only these cases.
        mask_threshold: mask values from this one on (of 255) are foreground.
        folders: for layouts that are not known, ``{set: {"images": FOLDER, "masks": FOLDER}}`` below ``dataset_dir``.
            Images may lie in folders below; their masks then lie in folders of the same names. None finds the sets.

    Returns:
        Items ``{"image", "label", "dataset", "filename_or_obj"}``.

    Raises:
        ConfigError: When ``folders`` is not as above.
        DataError: When a set or files are missing, unreadable, or do not pair.
    """
    items = _labelled(dataset_dir, "TestDataset", sets, split_file, folders)
    check_pairs(items, mask_threshold=mask_threshold)
    return items


def inference_datalist(dataset_dir: str | Path, output_dir: str | Path | None = None) -> dict[str, list]:
    """Images to predict: all below a folder, or a single file.

    Args:
        dataset_dir: a folder, searched at any depth, or an image file.
        output_dir: where predictions are written; what earlier runs wrote there is left out.

    Returns:
        ``{"cases": [{"image": path}, ...], "rejected": [line, ...]}``; the lines name unreadable images and say why.

    Raises:
        DataError: When there is no image, or none that can be read.
    """
    path = Path(dataset_dir)
    images = [path] if path.is_file() else list_images(path, recursive=True)
    if output_dir is not None and path.is_dir():
        own = Path(output_dir).resolve()
        images = [image for image in images if not {own / "masks", own / "overlays"} & set(image.resolve().parents)]
    readable, rejected = split_readable(images)
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
