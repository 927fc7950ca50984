# SPDX-License-Identifier: Apache-2.0
"""Reads what an annotator's viewer sends: clicks as MONAI Label's DeepEdit takes them, and scribbles as its own."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_sam2unet.errors import DataError
from monai_sam2unet.inferers import Mark, strokes
from monai_sam2unet.label.label_numbers import BACKGROUND

__all__ = ["click_marks", "scribble_marks"]

FOREGROUND = "foreground"
EXAMPLE = '{"%s": [[120, 80, 12]], "background": [[40, 80, 12]]}'


def _is_point(value: Any) -> bool:
    return (
        isinstance(value, Sequence) and len(value) in (2, 3) and all(type(number) in (int, float) for number in value)
    )


def _points(name: str, value: Any, example: str) -> list[Sequence[float]]:
    if isinstance(value, str):
        try:
            value = json.loads(value) if value else []
        except json.JSONDecodeError as error:
            raise DataError(f"The clicks of {name!r} are no JSON ({error}). They look like {example}.") from error
    if value is None:
        return []
    if not isinstance(value, list) or not all(_is_point(point) and all(map(math.isfinite, point)) for point in value):
        raise DataError(
            f"The clicks of {name!r} must be a list of points of 2 or 3 numbers, as {example}; got {value!r}."
        )
    return value


def _pixel(name: str, point: Sequence[float], shape: Sequence[int]) -> list[int]:
    """Indices of an array: of a picture rows come first, in its viewer columns do."""
    index = [round(number) for number in point]
    size = list(shape) if len(shape) == 3 else [*shape[::-1], 1]
    if len(index) == 2 and len(shape) == 2:
        index.append(0)
    if len(index) != 3 or not all(0 <= i < n for i, n in zip(index, size, strict=True)):
        raise DataError(
            f"The click {list(point)} of {name!r} lies outside of the image, which has {' x '.join(map(str, size))} "
            f"{'voxels' if len(shape) == 3 else 'pixels (column, row, 0)'}, numbered from 0."
        )
    return index if len(shape) == 3 else index[1::-1]


def click_marks(request: Mapping[str, Any], labels: Mapping[str, int], shape: Sequence[int]) -> list[Mark]:
    """The clicks of a request.

    Args:
        request: with a list of points for each label that was clicked, under its name, ``background`` for what belongs
            to none. A point is a voxel (i, j, k), of a picture a pixel (column, row) or (column, row, 0). Of DeepGrow's
            two lists ``foreground`` means the one label that there is, or that named by ``label``.
        labels: name -> number of the classes.
        shape: of the image, (H, W) or (X, Y, Z).

    Raises:
        DataError: When a label is not known, or points are no points or outside of the image.

    Example:
        >>> [mark] = click_marks({"polyp": [[30, 10, 0]], "background": []}, {"polyp": 1}, (20, 40))
        >>> mark.label, mark.pixels.tolist()
        (1, [[10, 30]])
    """
    names = {**labels, BACKGROUND: 0}
    known = ", ".join(names)
    example = EXAMPLE % next(iter(labels))
    unknown = [
        name
        for name, value in request.items()
        if name not in (*names, FOREGROUND) and isinstance(value, list) and value and all(map(_is_point, value))
    ]
    if unknown:
        raise DataError(f"There is no label {', '.join(map(repr, unknown))}; there are {known}.")
    marks = [
        Mark(number, [_pixel(name, point, shape)])
        for name, number in names.items()
        for point in _points(name, request.get(name), example)
    ]
    points = _points(FOREGROUND, request.get(FOREGROUND), example)
    if points and FOREGROUND not in names:
        given = request.get("label")
        name = next(iter(labels)) if len(labels) == 1 else given
        if name not in labels:
            raise DataError(f"Clicks of 'foreground' need the label that is meant, one of {known}; got {given!r}.")
        marks += [Mark(labels[str(name)], [_pixel(FOREGROUND, point, shape)]) for point in points]
    return marks


def _number(request: Mapping[str, Any], name: str, otherwise: int) -> int:
    """The value that a scribble has in the label image."""
    info = request.get("label_info") or []
    if not isinstance(info, list) or not all(isinstance(one, Mapping) for one in info):
        raise DataError(f"label_info must be a list as [{{'name': '{name}', 'id': {otherwise}}}]; got {info!r}.")
    given = next((one["id"] for one in info if one.get("name") == name and "id" in one), otherwise)
    try:
        return int(given)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"The id of {name!r} in label_info must be a number, as {otherwise}; got {given!r}.") from error


def scribble_marks(
    request: Mapping[str, Any], labels: Mapping[str, int], drawn: NDArray[Any]
) -> tuple[str, list[Mark]]:
    """The scribbles of a request.

    Args:
        request: with ``selected_label_name``, the label that they are for (may be missing where there is one only), and
            ``label_info``, which says what numbers ``foreground_scribbles`` and ``background_scribbles`` have; else
            they are two and one more than the number of labels, as in MONAI Label.
        labels: name -> number of the classes.
        drawn: (H, W) or (X, Y, Z), the label image that was sent.

    Returns:
        The label, and its strokes: those of the background exclude it.

    Raises:
        DataError: When the label is not known, or ``label_info`` is not as said.
    """
    given = request.get("selected_label_name")
    name = next(iter(labels)) if given is None and len(labels) == 1 else given
    if name not in labels:
        raise DataError(f"selected_label_name must be one of {', '.join(labels)}; got {given!r}.")
    marks = []
    for kind, include, otherwise in ((FOREGROUND, True, len(labels) + 2), (BACKGROUND, False, len(labels) + 1)):
        value = _number(request, f"{kind}_scribbles", otherwise)
        marks += strokes(np.asarray(drawn) == value, labels[str(name)], include)
    return str(name), marks
