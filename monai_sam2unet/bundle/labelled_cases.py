# SPDX-License-Identifier: Apache-2.0
"""Images with their masks, and volumes with their labels: of public sets as they are distributed, or of folders."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_sam2unet.data import (
    RecognisedPictures,
    RecognisedVolumes,
    case_name,
    find_sets,
    given_sets,
    is_datalist,
    list_images,
    pair_by_stem,
    read_datalist,
    read_split,
    recognise_pictures,
    recognise_volumes,
    stem_below,
)
from monai_sam2unet.errors import DataError, listing

__all__ = [
    "Folders",
    "folder_sets",
    "labelled_cases",
    "labelled_volumes",
    "recognised_pictures",
    "recognised_volumes",
    "sets_of_part",
]

logger = logging.getLogger(__name__)

Folders = Mapping[str, Mapping[str, str | Path]]
Cases = dict[str, list[dict[str, Any]]]
#: How the sets of a public data set are called that are meant for training, and for tests.
_PARTS = {"TrainDataset": re.compile("train|tr$"), "TestDataset": re.compile("test(?:ing|set|data|[^a-z]|$)|ts$")}
_OTHER_PART = {"TrainDataset": "TestDataset", "TestDataset": "TrainDataset"}


def _named(found: Sequence[str], names: Sequence[str] | str | None, dataset_dir: str | Path) -> list[str]:
    """The sets that are asked for, or all; they are there."""
    names = list(found) if names is None else [names] if isinstance(names, str) else names
    unknown = [name for name in names if name not in found]
    if unknown:
        raise DataError(f"There is no set {', '.join(unknown)} in {dataset_dir}. It has: {', '.join(found)}.")
    return [name for name in found if name in names]


def _check_folders(chosen: Mapping[str, tuple[Path, Path]]) -> None:
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


def _of_folders(chosen: Mapping[str, tuple[Path, Path]], stems: Sequence[str] | None, recursive: bool) -> Cases:
    """Pairs of the sets; of them those with the given stems, if there are such."""
    cases: Cases = {}
    for name, (images, masks) in chosen.items():
        wanted = None
        if stems is not None:
            present = {stem_below(p, folder) for folder in (images, masks) for p in list_images(folder, recursive)}
            wanted = [stem for stem in stems if stem in present]
        pairs = pair_by_stem(images, masks, wanted, recursive)
        cases[name] = [{**pair, "stem": stem_below(Path(pair["image"]), images)} for pair in pairs]
    return cases


def _with_stems(cases: Cases, stems: Sequence[str] | None) -> Cases:
    """Of the cases those with the given stems, if there are such."""
    if stems is None:
        return cases
    wanted = set(stems)
    return {name: [item for item in items if item["stem"] in wanted] for name, items in cases.items()}


def _of_layout(
    found: RecognisedPictures,
    chosen: Sequence[str],
    lost: Sequence[str],
    stems: Sequence[str] | None,
    allow_unlabelled: bool,
) -> Cases:
    """Cases of the sets of a public data set; of them those with the given stems, if there are such."""
    lost = lost if stems is None else []
    if lost and not allow_unlabelled:
        raise DataError(
            f"{len(lost)} images of {found.layout} have no mask. Leave them out with `--allow_unlabelled True`, or "
            f"name those to take with `--split_file`:\n{listing(lost)}"
        )
    left_out = f"; {len(lost)} images without a mask are left out" if lost else ""
    logger.info(f"Recognised {found.layout}, sets {', '.join(chosen)}{left_out}.")
    cases = {name: [{**item, "stem": Path(str(item["image"])).stem} for item in found.sets[name]] for name in chosen}
    return _with_stems(cases, stems)


def recognised_pictures(dataset_dir: str | Path) -> RecognisedPictures | None:
    """The sets of a datalist, or of a public set as :func:`monai_sam2unet.data.recognise_pictures` knows them.

    Args:
        dataset_dir: a JSON file, or a folder.

    Returns:
        The sets; None of a folder that is no public set.

    Raises:
        DataError: As :func:`monai_sam2unet.data.read_datalist`.
    """
    return read_datalist(dataset_dir) if is_datalist(dataset_dir) else recognise_pictures(dataset_dir)


def recognised_volumes(dataset_dir: str | Path, folders: Folders | None = None) -> RecognisedVolumes:
    """The sets of a datalist, or of a folder as :func:`monai_sam2unet.data.recognise_volumes` knows them.

    Args:
        dataset_dir: a JSON file, or a folder.
        folders: as there.

    Raises:
        ConfigError: As there.
        DataError: As there, or as :func:`monai_sam2unet.data.read_datalist`.
    """
    if not is_datalist(dataset_dir) or folders is not None:
        return recognise_volumes(dataset_dir, folders)
    # What only lists files should not wait for torch.
    from monai_sam2unet.data.dicom_layouts import with_series_files

    found = read_datalist(dataset_dir)
    root = Path(dataset_dir).parent
    sets = {name: [with_series_files(item, root) for item in items] for name, items in found.sets.items()}
    return RecognisedVolumes(found.layout, sets, found.unlabelled)


def sets_of_part(found: Sequence[str], part: str) -> list[str]:
    """The sets that are meant for a part, by how they are called.

    Where none is called so, those that are not meant for the other part; and all, where every one is.

    Args:
        found: names of the sets.
        part: ``"TrainDataset"`` or ``"TestDataset"``.
    """
    own, other = ([name for name in found if _PARTS[key].match(name.lower())] for key in (part, _OTHER_PART[part]))
    return own or [name for name in found if name not in other] or list(found)


def folder_sets(dataset_dir: str | Path, part: str) -> dict[str, tuple[Path, Path]]:
    """The sets of folders of images and masks that are meant for a part.

    Args:
        dataset_dir: a folder as :func:`monai_sam2unet.data.find_sets` knows them.
        part: ``"TrainDataset"`` or ``"TestDataset"``.

    Returns:
        For each set, by name, its folder of images and its folder of masks: those in the folder of the part, or those
        that :func:`sets_of_part` takes by their names.

    Raises:
        DataError: As :func:`monai_sam2unet.data.find_sets`.
    """
    found = find_sets(dataset_dir, part)
    # In PraNet's folder for tests a set may have any name.
    names = list(found) if (Path(dataset_dir) / part).is_dir() else sets_of_part(list(found), part)
    return {name: found[name] for name in names}


def _chosen(
    found: RecognisedPictures, part: str, sets: Sequence[str] | None, dataset_dir: str | Path
) -> tuple[list[str], list[str]]:
    """The sets that are asked for, or those of a part; and the images without a mask in them."""
    names = list(found.sets)
    chosen = sets_of_part(names, part) if sets is None else _named(names, sets, dataset_dir)
    return chosen, [image for name in chosen for image in found.unlabelled.get(name, [])]


def labelled_cases(
    dataset_dir: str | Path,
    part: str,
    sets: Sequence[str] | None = None,
    split_file: str | Path | None = None,
    folders: Folders | None = None,
    allow_unlabelled: bool = False,
) -> list[dict[str, Any]]:
    """Cases of the chosen sets.

    Args:
        dataset_dir: as in :func:`monai_sam2unet.bundle.training_datalist`.
        part: ``"TrainDataset"`` or ``"TestDataset"``.
        sets: as there.
        split_file: as there.
        folders: as there.
        allow_unlabelled: as there.

    Returns:
        Items ``{"image", "label", "dataset", "filename_or_obj"}``, the last as MONAI's MetricsSaver names its rows.

    Raises:
        ConfigError: When ``folders`` is not as it should be.
        DataError: When a set or files are missing or do not pair, an image has no mask, or no image is chosen.
    """
    stems = None if split_file is None else read_split(split_file)
    known = None if folders is not None else recognised_pictures(dataset_dir)
    if known is not None:
        cases = _of_layout(known, *_chosen(known, part, sets, dataset_dir), stems, allow_unlabelled)
    else:
        if folders is not None:
            found = given_sets(dataset_dir, folders)
        else:
            found = folder_sets(dataset_dir, part) if sets is None else find_sets(dataset_dir, part)
        pairs = {name: found[name] for name in _named(list(found), sets, dataset_dir)}
        _check_folders(pairs)
        cases = _of_folders(pairs, stems, recursive=folders is not None)
    return _items(cases, stems, split_file, dataset_dir)


def _items(
    cases: Cases, stems: Sequence[str] | None, split_file: str | Path | None, dataset_dir: str | Path
) -> list[dict[str, Any]]:
    missing = set(stems or ()) - {item["stem"] for items in cases.values() for item in items}
    if missing:
        raise DataError(
            f"{split_file} names images that are in none of the sets:\n{listing(sorted(missing))}\n"
            "A name is that of the file, with its folder only where that lies below the folder of images."
        )
    if not any(cases.values()):
        raise DataError(f"No image of {dataset_dir} is chosen.")
    return [
        {
            "image": item["image"],
            "label": item["label"],
            "dataset": name,
            "filename_or_obj": case_name(item),
            # Of DICOM series, whose files' names tell no patient.
            **{key: item[key] for key in ("case", "patient") if key in item},
        }
        for name, items in cases.items()
        for item in items
    ]


def labelled_volumes(
    dataset_dir: str | Path,
    part: str,
    sets: Sequence[str] | None = None,
    split_file: str | Path | None = None,
    folders: Folders | None = None,
    allow_unlabelled: bool = False,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Volumes of the chosen sets, as :func:`monai_sam2unet.data.recognise_volumes` finds them.

    Args:
        dataset_dir: the folder.
        part: ``"TrainDataset"`` or ``"TestDataset"``: which sets are taken where none are named.
        sets: names of the sets to take; None takes all of the part.
        split_file: a text file of names of cases, one a line: only these; other files may then lack a partner.
        folders: as in :func:`monai_sam2unet.data.recognise_volumes`.
        allow_unlabelled: whether images without a label are left out; else they are a problem.

    Returns:
        Items as those of :func:`labelled_cases`, where a label that has a file for each class is their list, as is the
        image of a DICOM series, with ``case`` and ``patient``; and a line for each file without partner.

    Raises:
        ConfigError: When ``folders`` is not as it should be.
        DataError: When there are no volumes, a set is missing, or no case is chosen.
    """
    stems = None if split_file is None else read_split(split_file)
    found = recognised_volumes(dataset_dir, folders)
    chosen, lost = _chosen(found, part, sets, dataset_dir)
    problems: list[str] = []
    if stems is None:
        problems = [*found.problems, *(f"{image}: no label" for image in lost if not allow_unlabelled)]
    left_out = f"; {len(lost)} images without a label are left out" if lost and not problems else ""
    logger.info(f"Recognised {found.layout}, sets {', '.join(chosen)}{left_out}.")
    for remark in found.remarks:
        logger.info(remark)
    cases = _with_stems({name: [dict(item) for item in found.sets[name]] for name in chosen}, stems)
    return _items(cases, stems, split_file, dataset_dir), problems
