# SPDX-License-Identifier: Apache-2.0
"""Checks volumes and their labels, all of them, before a training spends time on some."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any, TypeVar

import nibabel as nib
import torch
from monai.data import MetaTensor
from monai.utils import ensure_tuple
from nibabel.filebasedimages import ImageFileError

from monai_sam2unet.errors import DataError, listing
from monai_sam2unet.transforms import MatchOrientation, Preset

__all__ = ["check_volumes", "volume_problems"]

T = TypeVar("T")


def _grid(path: str, require_orientation: bool = False) -> MetaTensor:
    """A volume (1, X, Y, Z) without values, of which only the header is read."""
    try:
        file: Any = nib.load(path)
    except (OSError, ValueError, EOFError, ImageFileError) as error:
        raise DataError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    shape = file.shape[:3] + tuple(n for n in file.shape[3:] if n != 1)
    if len(shape) != 3 or file.affine is None:
        raise DataError(f"{path} is no volume of three dimensions but of the shape {tuple(file.shape)}.")
    if require_orientation and not any(int(file.header[f"{code}_code"]) for code in ("sform", "qform")):
        raise DataError(f"{path} does not say how it lies in the patient: sform_code and qform_code are 0.")
    values = torch.zeros(1, dtype=torch.uint8).expand(1, *shape)
    return MetaTensor(values, affine=torch.as_tensor(file.affine), meta={"filename_or_obj": path})


def _problems_of(item: Mapping[str, Any], preset: Preset) -> list[str]:
    problems: list[str] = []

    def tried(function: Callable[..., T], *args: Any) -> T | None:
        try:
            return function(*args)
        except DataError as error:
            problems.append(" ".join(str(error).split()))
            return None

    image = tried(_grid, item["image"], preset.require_orientation)
    for path in ensure_tuple(item["label"]):
        label = tried(_grid, path)
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
            list.
        preset: which says what the labels hold.
        problems: lines on what is wrong already.
        num_threads: how many files are read at the same time.

    Raises:
        DataError: When there are such lines; files cannot be read, are no volumes, or an image does not say how it
            lies; a label does not lie on its image's grid; it holds broken numbers, or numbers or files that are no
            class.
    """
    found = [*problems, *volume_problems(items, preset, num_threads)]
    if found:
        raise DataError(f"{len(found)} problems with volumes or labels; mend or remove these files:\n{listing(found)}")
