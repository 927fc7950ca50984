# SPDX-License-Identifier: Apache-2.0
"""Checks volumes and their labels, all of them, before a training spends time on some."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any, TypeVar

from monai.utils import ensure_tuple

from monai_sam2unet.dicom import is_dicom
from monai_sam2unet.errors import DataError, listing
from monai_sam2unet.transforms import MatchOrientation, Preset, volume_grid

__all__ = ["check_volumes", "volume_problems"]

T = TypeVar("T")


def _problems_of(item: Mapping[str, Any], preset: Preset) -> list[str]:
    problems: list[str] = []

    def tried(function: Callable[..., T], *args: Any) -> T | None:
        try:
            return function(*args)
        except DataError as error:
            problems.append(" ".join(str(error).split()))
            return None

    image = tried(preset.grid, item["image"])
    for path in ensure_tuple(item["label"]):
        if is_dicom(path):
            # A segmentation has no grid but that of its image.
            if image is None:
                return problems
            continue
        label = tried(volume_grid, path)
        if label is None:
            return problems
        # Of a label on another grid the values are looked at on its own.
        if image is None or tried(MatchOrientation(), label, image) is None:
            image = label
    tried(preset.labels(), {preset.image_key: image, preset.label_key: item["label"]})
    return problems


def volume_problems(items: Sequence[Mapping[str, Any]], preset: Preset, num_threads: int = 4) -> list[str]:
    """Read all labels, and the headers of all images, and name everything that is wrong with them.

    Args:
        items: as in :func:`check_volumes`.
        preset: as there.
        num_threads: as there.

    Returns:
        A line for each problem, see there.
    """
    ordered = sorted(items, key=lambda item: str(item["image"]))
    with ThreadPoolExecutor(num_threads) as pool:
        return list(chain.from_iterable(pool.map(lambda item: _problems_of(item, preset), ordered)))


def check_volumes(
    items: Sequence[Mapping[str, Any]], preset: Preset, problems: Sequence[str] = (), num_threads: int = 4
) -> None:
    """Read all labels, and the headers of all images; everything that is wrong with them is one error.

    Args:
        items: pairs ``{"image": path, "label": path}`` of NIfTI files; with a file for each class ``label`` is their
            list, of a DICOM series ``image`` is that of its files. The label of such may be a DICOM segmentation.
        preset: which says what the labels hold.
        problems: lines on what is wrong already.
        num_threads: how many files are read at the same time.

    Raises:
        DataError: When there are such lines; files cannot be read, are no volumes, or an image does not say how it
            lies; a label does not lie on its image's grid; it holds broken numbers, or numbers, files or segments that
            are no class; segments overlap, or are those of another series.
    """
    found = [*problems, *volume_problems(items, preset, num_threads)]
    if found:
        raise DataError(f"{len(found)} problems with volumes or labels; mend or remove these files:\n{listing(found)}")
