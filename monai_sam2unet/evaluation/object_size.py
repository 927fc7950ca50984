# SPDX-License-Identifier: Apache-2.0
"""Scores apart for small, medium and large objects: a mean over all hides how the small ones fare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["SIZE_EDGES", "scores_by_size"]

#: Share of the image from which objects are called medium, and large.
SIZE_EDGES = (0.025, 0.1)
_NAMES = ("small", "medium", "large")


def scores_by_size(frame: pd.DataFrame, column: str = "dice") -> dict[str, Mapping[str, Any]]:
    """Mean score of the images with small, medium and large foreground.

    Args:
        frame: a row an image, with ``foreground``, the share of the image that is foreground, and the scores.
        column: the score.

    Returns:
        For each of ``small`` (less than 2.5 % of the image), ``medium`` (less than 10 %) and ``large`` that there is:
        ``images``, and of the score ``mean_`` and ``std_``. Images without foreground are in none.

    Example:
        >>> scores_by_size(pd.DataFrame({"foreground": [0.0, 0.01, 0.2, 0.3], "dice": [1.0, 0.5, 0.8, 0.9]}))["small"]
        {'images': 1, 'mean_dice': 0.5, 'std_dice': 0.0}
    """
    shown = frame[(frame["foreground"] > 0) & frame[column].notna()]
    places = np.digitize(shown["foreground"], SIZE_EDGES)
    groups = {name: shown.loc[places == place, column] for place, name in enumerate(_NAMES)}
    return {
        name: {
            "images": len(own),
            f"mean_{column}": float(own.mean()),
            f"std_{column}": float(own.std(ddof=1)) if len(own) > 1 else 0.0,
        }
        for name, own in groups.items()
        if len(own)
    }
