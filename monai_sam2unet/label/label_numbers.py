# SPDX-License-Identifier: Apache-2.0
"""The numbers in a label: what a viewer says they mean, and the same label with the numbers of a model's classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_sam2unet.errors import DataError

__all__ = ["BACKGROUND", "WHITE", "class_numbers", "named_segments", "names_by_number", "numbers_in"]

#: Under which a viewer tells the value of a segment: 3D Slicer when it saves, and when it asks.
VALUE_KEYS = ("idx", "id", "labelID")
#: Models that take clicks name it, so that viewers have a segment for those that exclude.
BACKGROUND = "background"
#: A mask of one class may be an image of black and white.
WHITE = 255


def named_segments(info: Mapping[str, Any]) -> list[tuple[int | None, str]]:
    """Value and name of each segment that a viewer tells of; None where it tells no value.

    Args:
        info: with ``label_info``, a list as ``[{"name": "LV", "idx": 3}]``; may be missing.

    Raises:
        DataError: When it is no such list.

    Example:
        >>> named_segments({"label_info": [{"name": "LV", "idx": 3}, {"name": "RV"}]})
        [(3, 'LV'), (None, 'RV')]
    """
    items = info.get("label_info") or []
    if not isinstance(items, list) or not all(isinstance(item, dict) and item.get("name") for item in items):
        raise DataError(f'label_info must be a list of {{"name": ..., "idx": ...}}, one for each segment; got {items}.')
    found = []
    for item in items:
        value = next((item[key] for key in VALUE_KEYS if key in item), None)
        least = 0 if str(item["name"]).casefold() == BACKGROUND else 1
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise DataError(f"label_info: the value of {item['name']} must be a whole number from 1, got {value!r}.")
        found.append((value, str(item["name"])))
    return found


def names_by_number(info: Mapping[str, Any]) -> dict[int, str]:
    """The names of the numbers in a label that is kept; empty: nothing is said of them.

    Args:
        info: what is known of the label, as of :func:`named_segments`.

    Raises:
        DataError: As of :func:`named_segments`.
    """
    return {value: name for value, name in named_segments(info) if value is not None}


def numbers_in(values: NDArray[Any]) -> list[int]:
    """The numbers in a label, from 1.

    Args:
        values: of any shape; 0 is the background.

    Raises:
        DataError: When there are others than whole numbers from 0.
    """
    found = np.unique(values)
    if not np.array_equal(found, np.rint(found)) or found.min(initial=0) < 0:
        raise DataError("The label must hold whole numbers from 0.")
    return [int(value) for value in found if value]


def class_numbers(
    values: NDArray[Any], classes: Mapping[str, int], names: Mapping[int, str] | None = None
) -> NDArray[np.uint8]:
    """A label with the numbers of a model's classes.

    Args:
        values: of any shape; 0 is the background.
        classes: the model's numbers, from 1, by name.
        names: of the numbers in the label; None or empty: they are the model's. Then, of one class, 255 alone is it,
            too.

    Raises:
        DataError: When there are other numbers than whole ones, numbers without a name, or names that are no class.

    Example:
        >>> class_numbers(np.array([0, 1, 2]), {"RV": 1, "LV": 3}, {1: "LV", 2: "RV"}).tolist()
        [0, 3, 1]
    """
    found = numbers_in(values)
    told = dict(names or {number: name for name, number in classes.items()})
    if not names and len(classes) == 1 and found == [WHITE]:
        told[WHITE] = next(iter(classes))
    numbers: dict[int, int] = {}
    wrong = []
    for number in found:
        name = told.get(number, "")
        if name in classes:
            numbers[number] = classes[name]
        elif name.casefold() != BACKGROUND:
            wrong.append(f"{number} ({name})" if name else str(number))
    if wrong:
        known = ", ".join(f"{number} {name}" for name, number in classes.items())
        raise DataError(f"The label holds {', '.join(wrong[:5])}, which is no class; the classes are {known}.")
    ids = np.zeros(values.shape, np.uint8)
    for before, after in numbers.items():
        ids[values == before] = after
    return ids
