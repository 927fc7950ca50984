# SPDX-License-Identifier: Apache-2.0
"""What the scores of a set's images come to, and the files that hold them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from monai_sam2unet.evaluation.bootstrap import bootstrap_intervals
from monai_sam2unet.evaluation.scored import Scored

__all__ = ["CONFIDENCE", "SUMMARY_RESAMPLES", "best_level", "mean_curve", "remove_results", "summarise", "write_scores"]

#: Of the intervals of the means.
# Fewer draws than a comparison makes: a table of three sets has sixty intervals.
CONFIDENCE, SUMMARY_RESAMPLES = 0.95, 2000

RESULT_FILES = (
    "metrics.csv",
    "summary.json",
    "curves.csv",
    "reliability.csv",
    "report.html",
    "published.csv",
    "published.md",
)


def mean_curve(curves: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the images that count.

    Args:
        curves: (N, 256); NaN in the rows of images that do not count.

    Returns:
        (256,); NaN where no image counts.
    """
    counted = ~np.isnan(curves).any(1)
    mean: NDArray[np.float64] = curves[counted].mean(0) if counted.any() else np.full(curves.shape[1], np.nan)
    return mean


def best_level(curve: NDArray[np.float64]) -> int:
    """Where a curve is largest; of equal levels the lowest, and 0 where it is NaN."""
    return 0 if np.isnan(curve).all() else int(np.nanargmax(curve))


def summarise(frame: pd.DataFrame, columns: Sequence[str]) -> dict[str, Any]:
    """Number of images, and mean, standard deviation and 95 % interval of each score over the images that count.

    Args:
        frame: a row an image; NaN where it does not count.
        columns: the scores.

    Returns:
        ``images``, and of each score ``mean_``, ``std_`` and ``interval_`` (low and high); None where no image counts,
        or an interval is not defined. ``images_`` and the score's name: how many count, where that is not all.
    """
    made: dict[str, Any] = {"images": len(frame)}
    values = frame[list(columns)].to_numpy(np.float64)
    intervals = bootstrap_intervals(values, CONFIDENCE, SUMMARY_RESAMPLES, seed=0)
    for column, scores, (low, high) in zip(columns, values.T, intervals, strict=True):
        counted = scores[~np.isnan(scores)]
        made[f"mean_{column}"] = float(counted.mean()) if len(counted) else None
        made[f"std_{column}"] = float(counted.std(ddof=1)) if len(counted) > 1 else (0.0 if len(counted) else None)
        made[f"interval_{column}"] = None if math.isnan(low) or math.isnan(high) else [float(low), float(high)]
        if len(counted) < len(frame):
            made[f"images_{column}"] = len(counted)
    return made


def remove_results(folder: Path) -> None:
    """Remove what an earlier evaluation wrote, so that no two are mixed where the new one writes fewer files.

    Args:
        folder: the folder of the results; other files stay.
    """
    for name in RESULT_FILES:
        (folder / name).unlink(missing_ok=True)


def write_scores(table: Scored, folder: Path, settings: Mapping[str, Any]) -> None:
    """Write ``metrics.csv``, ``summary.json`` and, where there are such, ``curves.csv`` and ``reliability.csv``.

    Args:
        table: the scores.
        folder: where to; it exists.
        settings: what was measured.
    """
    # A name that is no UTF-8, as old archives unpack, should not cost the scores.
    table.frame().to_csv(folder / "metrics.csv", index=False, errors="backslashreplace")
    content = {"settings": {**settings, "scores": table.settings}, "sets": table.summary()}
    text = json.dumps(content, indent=2, default=str, allow_nan=False)
    (folder / "summary.json").write_text(text + "\n", encoding="utf-8")
    parts = [
        pd.DataFrame({"dataset": dataset, "level": np.arange(256), **curves})
        for dataset, curves in table.curves().items()
    ]
    if parts:
        pd.concat(parts).to_csv(folder / "curves.csv", index=False)
    reliability = table.reliability()
    if reliability:
        parts = [frame.assign(dataset=dataset) for dataset, frame in reliability.items()]
        pd.concat(parts).set_index("dataset").to_csv(folder / "reliability.csv")
