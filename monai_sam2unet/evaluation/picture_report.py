# SPDX-License-Identifier: Apache-2.0
"""The report of an evaluation that people look at: one HTML file with tables, curves and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pandas as pd

from monai_sam2unet import __version__
from monai_sam2unet.errors import DataError
from monai_sam2unet.evaluation.case_pictures import CasePictures
from monai_sam2unet.evaluation.case_scores import BOUNDARY_TOLERANCE
from monai_sam2unet.evaluation.columns import HEADINGS, is_lower_better
from monai_sam2unet.evaluation.html_page import page_environment
from monai_sam2unet.evaluation.object_size import SIZE_EDGES
from monai_sam2unet.evaluation.printed_scores import cell_of, heading_of, readings
from monai_sam2unet.evaluation.published import PublishedTable
from monai_sam2unet.evaluation.report_figures import draw_curves, draw_distributions, draw_reliability
from monai_sam2unet.evaluation.score_table import ScoreTable

__all__ = ["write_picture_report"]

#: Sets of which images are shown, images of them all, and the worst of all sets: what bounds the file's size.
MAX_SETS, MAX_CASES, WORST = 16, 70, 20


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}: ")
        else:
            found[f"{prefix}{name}"] = str(value)
    return found


def _places(count: int, each: int) -> list[tuple[str, int]]:
    """Places of the worst, median and best of so many images in order; of few images all of them, the best first."""
    if count < 3 * each:
        return [(f"{rank} of {count}", count - rank) for rank in range(1, count + 1)]
    first = (count - each) // 2
    wanted = [("worst", range(each)), ("median", range(first, first + each)), ("best", range(count - each, count))]
    return [(name, place) for name, places in wanted for place in places]


def _examples(
    frame: pd.DataFrame, pictures: CasePictures, sets: Sequence[str], column: str
) -> tuple[list[dict[str, Any]], list[str]]:
    shown = list(sets)[:MAX_SETS]
    each = max(1, min(3, MAX_CASES // (3 * len(shown))))
    examples = []
    for dataset in shown:
        own = frame[(frame["dataset"] == dataset) & frame[column].notna()].sort_values(column, kind="stable")
        cases = [_case(own.iloc[place], name, column, pictures) for name, place in _places(len(own), each)]
        examples.append({"dataset": dataset, "cases": cases})
    return examples, list(sets)[MAX_SETS:]


def _case(row: pd.Series, place: str, column: str, pictures: CasePictures) -> dict[str, Any]:
    drawn = pictures.draw(row["dataset"], row["image"])
    return {"place": place, "image": row["image"], "score": f"{row[column]:.4f}", "pictures": drawn}


def _worst(frame: pd.DataFrame, pictures: CasePictures, column: str) -> list[dict[str, Any]]:
    own = frame[frame[column].notna()].sort_values(column, kind="stable")[:WORST]
    return [_case(row, f"{n}, {row['dataset']}", column, pictures) for n, (_, row) in enumerate(own.iterrows(), 1)]


def _by_size(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of the table of Dice by size; empty without Dice."""
    lower, upper = (f"{100 * edge:g} %" for edge in SIZE_EDGES)
    told = {"small": f"less than {lower}", "medium": f"{lower} to {upper}", "large": f"at least {upper}"}
    rows = []
    for size, words in told.items():
        own = [summary[name].get("dice_by_size", {}).get(size) for name in summary]
        if any(own):
            cells = [("-", "") if o is None else (f"{o['mean_dice']:.4f}", f"n={o['images']}") for o in own]
            rows.append({"heading": f"{size} ({words})", "cells": cells})
    return rows


def _beside(published: PublishedTable, summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for row in published.rows(summary):
        ours, difference = ("-", "-") if row.ours is None else (f"{row.ours:.3f}", f"{row.difference:+.3f}")
        heading = f"{HEADINGS[row.column]} {'↓' if is_lower_better(row.column) else '↑'}"
        numbers = {
            "n": row.n,
            "ours": ours,
            "paper": f"{row.paper:.3f}",
            "difference": difference,
            "better": row.better,
        }
        rows.append({"dataset": row.dataset, "heading": heading, **numbers})
    return rows


def write_picture_report(
    path: str | Path,
    table: ScoreTable,
    pictures: CasePictures | None = None,
    published: PublishedTable | None = None,
    settings: Mapping[str, Any] | None = None,
    problems: Sequence[str] = (),
    title: str = "Evaluation of segmentations",
) -> Path:
    """Write the report: scores of both readings, curves, spread of the images, and the worst, median and best of them.

    The file needs no other file, no network and no script. Its size is bounded, however many images there are: at most
    70 cases of the first 16 sets are shown, up to three each of worst, median and best (or all images of a small set),
    and the worst twenty of all sets, in JPEG pictures of at most 256 pixels a side. That makes 1 to 4 MB for five sets,
    and less than 20 MB at the very worst.

    Args:
        path: HTML file to write.
        table: the scores; at least one case.
        pictures: all cases of the table, kept small; None: no cases are shown.
        published: numbers to compare with.
        settings: what was measured, put into the report beside how.
        problems: lines about files that could not be scored.
        title: heading of the report.

    Returns:
        ``path``.

    Raises:
        DataError: When there is no case, or one has no picture.
    """
    if not len(table):
        raise DataError("No image was scored, so there is nothing to report.")
    path = Path(path)
    summary, frame, sets = table.summary(), table.frame(), table.sets()
    ranked = [column for column in ("dice", "s_measure") if column in frame]
    examples: list[dict[str, Any]] = []
    not_shown: list[str] = []
    worst: list[dict[str, Any]] = []
    if pictures is not None:
        examples, not_shown = _examples(frame, pictures, sets, ranked[0])
        if len(table) > sum(len(example["cases"]) for example in examples):
            worst = _worst(frame, pictures, ranked[0])
    reliability = table.reliability()
    shown = [
        {
            "title": heading,
            "rows": [
                {"heading": heading_of(column, table), "cells": [cell_of(summary[name], column) for name in sets]}
                for column in columns
            ],
        }
        for heading, columns in readings(table)
    ]
    html = page_environment().get_template("report_template.html").render(
        title=title,
        when=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        version=__version__,
        images=len(table),
        sets=sets,
        summary=summary,
        readings=shown,
        boundary_tolerance=BOUNDARY_TOLERANCE if "boundary_f" in frame else None,
        protocols=[name for name in ("clinical", "sod") if table.protocol in (name, "both")],
        published=None if published is None else _beside(published, summary),
        published_note=None if published is None else published.note,
        not_measured=[] if published is None else published.not_measured(summary),
        curves=draw_curves(table.curves()) if table.papers_columns else None,
        reliability=draw_reliability(reliability) if reliability else None,
        by_size=_by_size(summary),
        distributions=draw_distributions(frame, {column: HEADINGS[column] for column in ranked}, sets),
        ranked_headings=[HEADINGS[column] for column in ranked],
        ranked_by=HEADINGS[ranked[0]],
        examples=examples,
        worst=worst,
        not_shown=not_shown,
        settings=_flat({**(settings or {}), "scores": table.settings}),
        problems=list(problems),
    )  # fmt: skip
    path.write_text(html, encoding="utf-8", errors="backslashreplace")
    return path
