# SPDX-License-Identifier: Apache-2.0
"""Finds whether two evaluations were measured in the same way, from the settings that they wrote down."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai_sam2unet.errors import DataError

__all__ = ["MEASURED_SETTINGS", "different_settings", "read_measured_settings", "unknown_settings"]

#: Settings that change what a score means.
MEASURED_SETTINGS = (
    "protocol",
    "threshold",
    "mask_threshold",
    "label_ids",
    "tolerance",
    "unit",
    "boundary_tolerance",
    "boundary_unit",
    "empty_truth",
)


def read_measured_settings(path: str | Path) -> dict[str, Any]:
    """Read how an evaluation was measured, from the ``summary.json`` beside its ``metrics.csv``.

    Args:
        path: ``metrics.csv``, or the folder that holds it.

    Returns:
        Those of :data:`MEASURED_SETTINGS` that are written down; none without such a file, or beside a table of
        another name, to which the file may not belong.

    Raises:
        DataError: When the file is no JSON.
    """
    path = Path(path)
    file = (path if path.is_dir() else path.parent) / "summary.json"
    if not file.is_file() or not (path.is_dir() or path.name == "metrics.csv"):
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{file} is no JSON, so it does not tell how was measured: {error}") from error
    settings = content.get("settings") if isinstance(content, dict) else None
    if not isinstance(settings, dict):
        return {}
    scores = settings.get("scores")
    known = {**settings, **(scores if isinstance(scores, dict) else {})}
    return {name: known[name] for name in MEASURED_SETTINGS if name in known}


def different_settings(a: Mapping[str, Any], b: Mapping[str, Any], names: tuple[str, str]) -> list[str]:
    """Name the settings that are known of both and differ.

    Args:
        a: settings of A.
        b: settings of B.
        names: what A and B are called.

    Example:
        >>> different_settings({"threshold": 0.5, "unit": "mm"}, {"threshold": 0.3, "unit": "mm"}, ("A", "B"))
        ['threshold: 0.5 of A, 0.3 of B']
    """
    return [f"{key}: {a[key]} of {names[0]}, {b[key]} of {names[1]}" for key in a if key in b and a[key] != b[key]]


def unknown_settings(a: Mapping[str, Any], b: Mapping[str, Any], names: tuple[str, str]) -> list[str]:
    """Say which settings cannot be held against each other, a sentence for A and one for B; none if all can.

    Args:
        a: settings of A.
        b: settings of B.
        names: what A and B are called.

    Example:
        >>> unknown_settings({"threshold": 0.5, "mask_threshold": 127.5}, {"threshold": 0.5}, ("A", "B"))
        ['Not known of B, so perhaps measured differently: mask_threshold.']
    """
    lines = []
    for name, own, other in ((names[0], a, b), (names[1], b, a)):
        missing = [key for key in other if key not in own]
        if not own:
            lines.append(f"How {name} was measured is not known: there is no summary.json with settings beside it.")
        elif missing:
            lines.append(f"Not known of {name}, so perhaps measured differently: {', '.join(missing)}.")
    return lines
