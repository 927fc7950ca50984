# SPDX-License-Identifier: Apache-2.0
"""The raw dataset of nnU-Net v2: its folder, its files beside the images, and the folds.

The format is that of nnU-Net's documentation, ``dataset_format.md`` and ``manual_data_splits.md``
(https://github.com/MIC-DKFZ/nnUNet, Isensee et al., doi:10.1038/s41592-020-01008-z).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from monai_sam2unet.bundle.folds import leave_out_fold
from monai_sam2unet.data import case_name
from monai_sam2unet.errors import ConfigError, DataError, listing

__all__ = ["CaseWriter", "case_identifiers", "write_dataset"]

#: Names that nnU-Net gives a meaning of its own.
RESERVED = ("background", "ignore")
#: Numbers below are those of nnU-Net's own public data sets.
FIRST_NUMBER = 501
NUM_FOLDS = 5

Items = Sequence[Mapping[str, Any]]
#: Writes a case's image and label to two files.
CaseWriter = Callable[[Mapping[str, Any], Path, Path], None]


def case_identifiers(images: Sequence[str | Path]) -> list[str]:
    """Name cases after their images: the file's name, with as many folders before it as tell all of them apart.

    Args:
        images: files; what is no letter, digit, dot or dash in a name becomes ``_``.

    Returns:
        Names without suffix, all different; nnU-Net's number of the channel, where all have it, is left out.

    Raises:
        DataError: When two files have the same path but for such signs and the suffix.

    Example:
        >>> case_identifiers(["data/a/1.png", "data/b/1.png"])
        ['a_1', 'b_1']
        >>> case_identifiers(["benign (4).png", "benign (40).png"])
        ['benign_4', 'benign_40']
    """
    stems = [re.sub(r"(\.nii(\.gz)?|\.[^./\\]+)$", "", str(image)) for image in images]
    if all(stem.endswith("_0000") for stem in stems):
        stems = [stem.removesuffix("_0000") for stem in stems]
    parts = [Path(stem).parts for stem in stems]
    for depth in range(1, max(map(len, parts)) + 1):
        names = [re.sub(r"[^\w.-]+", "_", "_".join(own[-depth:])).strip("_") for own in parts]
        if len(set(names)) == len(names):
            return names
    twice = [str(image) for image, name in zip(images, names, strict=True) if names.count(name) > 1]
    raise DataError(f"These images would have one name; rename some:\n{listing(twice)}")


def _dataset_folder(folder: Path, name: str) -> Path:
    """A folder that is not there yet, of a number that no other has."""
    known = {path.name[:10]: path for path in folder.glob("Dataset[0-9][0-9][0-9]_*")}
    same = [path for path in known.values() if path.name[11:] == name]
    if same:
        raise ConfigError(f"{same[0]} exists; remove it, or give another folder (`--export-nnunet`).")
    number = next(n for n in count(FIRST_NUMBER) if f"Dataset{n:03}" not in known)
    return folder / f"Dataset{number:03}_{name}"


def _labels(class_names: Sequence[str]) -> dict[str, int]:
    wrong = sorted({name for name in class_names if name.lower() in RESERVED or list(class_names).count(name) > 1})
    if wrong:
        raise ConfigError(f"Classes must have different names, and none of {', '.join(RESERVED)}; got {wrong}.")
    return {"background": 0, **{name: index for index, name in enumerate(class_names, 1)}}


def write_dataset(
    items: Items,
    folder: str | Path,
    name: str,
    ending: str,
    channels: Sequence[str],
    class_names: Sequence[str],
    group_pattern: str | None,
    write: CaseWriter,
) -> Path:
    """Write all cases, or nothing.

    Args:
        items: ``{"image": path, "label": path or paths}``.
        folder: nnU-Net's ``nnUNet_raw``; a folder ``DatasetXXX_NAME`` is made in it, of the next free number.
        name: of the dataset; what is no letter or digit becomes ``_``.
        ending: of the files, as ``".png"``.
        channels: names of an image's channels.
        class_names: names of the classes, from index 1 on.
        group_pattern: as :func:`monai_sam2unet.bundle.folds.leave_out_fold` takes it.
        write: writes a case's image and label to the files it is given.

    Returns:
        The dataset's folder.

    Raises:
        ConfigError: When a dataset of this name exists, or names of classes are not different or nnU-Net's own.
        DataError: When cases cannot be written (all are told at once), names cannot be told apart, or there are fewer
            patients than folds.
    """
    labels = _labels(class_names)
    images = [case_name(item) for item in items]
    names = dict(zip(images, case_identifiers(images), strict=True))
    folds = [leave_out_fold(items, fold, NUM_FOLDS, group_pattern) for fold in range(NUM_FOLDS)]
    splits = [
        {key: sorted(names[case_name(item)] for item in part) for key, part in zip(("train", "val"), fold, strict=True)}
        for fold in folds
    ]
    description = {
        "channel_names": {str(number): channel for number, channel in enumerate(channels)},
        "labels": labels,
        "numTraining": len(items),
        "file_ending": ending,
        "name": name,
    }
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    target = _dataset_folder(root, re.sub(r"\W+", "_", name).strip("_") or "own")
    with TemporaryDirectory(dir=root, prefix=".") as temporary:
        made = Path(temporary, target.name)
        for kind in ("imagesTr", "labelsTr"):
            (made / kind).mkdir(parents=True)
        problems = []
        for item in items:
            case = names[case_name(item)]
            try:
                write(item, made / "imagesTr" / f"{case}_0000{ending}", made / "labelsTr" / f"{case}{ending}")
            except DataError as error:
                problems.append(" ".join(str(error).split()))
        if problems:
            raise DataError(f"{len(problems)} cases cannot be exported; nothing is written:\n{listing(problems)}")
        for file, content in (("dataset.json", description), ("splits_final.json", splits)):
            (made / file).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        made.rename(target)
    return target
