# SPDX-License-Identifier: Apache-2.0
"""Cases named one by one in a JSON file, as MONAI and the Medical Segmentation Decathlon have it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from monai_sam2unet.data.picture_layouts import RecognisedPictures
from monai_sam2unet.errors import DataError, listing

__all__ = ["is_datalist", "read_datalist"]


def is_datalist(path: str | Path) -> bool:
    """Whether a path is that of a JSON file."""
    return Path(path).suffix.lower() == ".json" and Path(path).is_file()


def read_datalist(path: str | Path) -> RecognisedPictures:
    """Read a datalist: ``{"training": [{"image": FILE, "label": FILE}, ...], "test": [...]}``.

    Args:
        path: the JSON file; files in it are taken relative to its folder.

    Returns:
        Its lists as sets, by their keys; ``label`` may be a list of files.

    Raises:
        DataError: When the file is no JSON, has no list of cases with labels, or names files that are not there.
    """
    # What only lists and compares files should not wait for torch.
    from monai.data import load_decathlon_datalist

    file = Path(path)
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, ValueError) as error:
        raise DataError(f"{file} is no JSON: {error}") from error
    sets: dict[str, list[dict[str, str | list[str]]]] = {}
    unlabelled: dict[str, list[str]] = {}
    lists = content.items() if isinstance(content, dict) else ()
    for name, cases in [(name, cases) for name, cases in lists if isinstance(cases, list) and cases]:
        # The Decathlon's tests are images without labels, as texts.
        if not all(isinstance(case, dict) and "image" in case for case in cases):
            continue
        for case in load_decathlon_datalist(file, data_list_key=name):
            if "label" in case:
                stem = Path(str(case["image"])).name.removesuffix(".gz").rsplit(".", 1)[0]
                item = {"image": str(case["image"]), "label": case["label"], "stem": stem}
                sets.setdefault(name, []).append(item)
            else:
                unlabelled.setdefault(name, []).append(str(case["image"]))
    if not sets:
        raise DataError(f'{file} has no list of cases: expected is {{"training": [{{"image": ..., "label": ...}}]}}.')
    named = [file for items in sets.values() for item in items for file in _files(item)]
    absent = [name for name in named if not Path(name).exists()]
    if absent:
        raise DataError(f"{len(absent)} files that {file} names are not there:\n{listing(absent)}")
    return RecognisedPictures("a datalist", sets, unlabelled)


def _files(item: dict[str, str | list[str]]) -> list[str]:
    label = item["label"]
    return [str(item["image"]), *([label] if isinstance(label, str) else label)]
