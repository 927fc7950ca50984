# SPDX-License-Identifier: Apache-2.0
"""What a run leaves for people to read: a table of all measurements and a page, in the output folder."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from monai_sam2unet import __version__
from monai_sam2unet.batch.identity import discreet
from monai_sam2unet.batch.journal_row import JournalRow, State
from monai_sam2unet.evaluation.html_page import page_environment
from monai_sam2unet.folders import whole_file

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MEASUREMENTS", "PREVIEW", "collect_measurements", "unlikeness", "with_sizes", "write_run_report"]

#: Of each series, and of all, in the output folder.
MEASUREMENTS = "measurements.csv"
PREVIEW = "preview.png"
#: Pictures in the page, and lines of its tables: what bounds its size.
MAX_PICTURES, MAX_LINES = 60, 200
#: Columns of measurements, and their units.
UNITS = {"volume_ml": "ml", "area_mm2": "mm2", "area_pixels": "pixels"}
STAGES = {"read_s": "reading", "predict_s": "prediction", "write_s": "writing"}


def collect_measurements(output_dir: Path, rows: Sequence[JournalRow]) -> pd.DataFrame:
    """The measurements of all series that are done.

    Args:
        output_dir: of the run.
        rows: of its journal.

    Returns:
        A row for each series and segment: the column ``series``, then those of
        :class:`monai_sam2unet.dicom.measurements.SegmentMeasurement`; empty where none were written.
    """
    tables = []
    for row in rows:
        file = output_dir / row.key / MEASUREMENTS
        if row.state is State.DONE and MEASUREMENTS in row.outputs and file.is_file():
            table = pd.read_csv(file)
            table.insert(0, "series", row.key)
            tables.append(table)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame({"series": []})


def with_sizes(measurements: pd.DataFrame) -> pd.DataFrame:
    """Measurements with what each segment is measured by: the columns ``size`` and ``unit``.

    Args:
        measurements: with the columns of :data:`UNITS`, of which each row has one.
    """
    sizes = measurements[list(UNITS)].astype(float)
    return measurements.assign(size=sizes.bfill(axis=1).iloc[:, 0], unit=sizes.notna().idxmax(axis=1).map(UNITS))


def unlikeness(measurements: pd.DataFrame) -> pd.Series:
    """How far each series lies from the others of the run, by the sizes of its segments.

    Of each segment's size the logarithm is compared with the run's median, in units of the median absolute deviation;
    a segment that is missing where most series have it counts as farthest. With nothing known of the truth, that is
    where mistakes are looked for first.

    Args:
        measurements: with the columns ``series``, ``number``, ``unit`` and ``size``.

    Returns:
        The largest distance among its segments for each series, the largest first.

    Example:
        >>> table = pd.DataFrame({"series": list("abcd"), "number": 1, "unit": "ml", "size": [100.0, 110.0, 90.0, 0.0]})
        >>> unlikeness(table).index.tolist()[0]
        'd'
    """
    sizes = measurements.pivot_table(index="series", columns=["number", "unit"], values="size")
    logs = sizes.where(sizes > 0).apply(np.log)
    median = logs.median()
    spread = (1.4826 * (logs - median).abs().median()).clip(lower=0.05)
    distance = ((logs - median).abs() / spread).fillna(0)
    # What is in another unit is NaN, neither there nor missing.
    missing = (sizes == 0) & ((sizes > 0).sum() > (sizes == 0).sum())
    return distance.mask(missing, np.inf).max(axis=1).sort_values(ascending=False, kind="stable")


def _sizes(measurements: pd.DataFrame) -> list[dict[str, str]]:
    """Of each segment in how many series it is, and how large."""
    lines = []
    for (_, label, unit), group in measurements.groupby(["number", "label", "unit"], sort=True):
        there = group.loc[group["size"] > 0, "size"]
        low, middle, high = there.quantile([0.05, 0.5, 0.95]) if len(there) else (np.nan,) * 3
        size = f"{middle:.4g} ({low:.4g} to {high:.4g})" if len(there) else "none"
        lines.append({"label": str(label), "found": f"{len(there)} of {len(group)}", "size": size, "unit": str(unit)})
    return lines


def _speed(done: Sequence[JournalRow], seconds: float) -> dict[str, str]:
    slices = sum(row.slices for row in done)
    told = {
        "series an hour": f"{3600 * len(done) / seconds:.0f}" if seconds else "",
        "slices a second": f"{slices / seconds:.2f}" if seconds else "",
    }
    for name, stage in STAGES.items():
        taken = [value for row in done if (value := getattr(row, name)) is not None]
        told[f"{stage}, seconds a series"] = f"{np.mean(taken):.2f}" if taken else ""
    return {name: value for name, value in told.items() if value}


def _pictures(output_dir: Path, done: Sequence[JournalRow], order: Mapping[Any, float]) -> list[dict[str, Any]]:
    shown = sorted((row for row in done if PREVIEW in row.outputs), key=lambda row: -order.get(row.key, 0))
    found = []
    for row in shown[:MAX_PICTURES]:
        file = output_dir / row.key / PREVIEW
        if file.is_file():
            found.append({"key": row.key, "modality": row.modality, "png": file.read_bytes()})
    return found


def _reasons(skipped: Sequence[JournalRow]) -> list[tuple[str, int]]:
    counts = pd.Series([row.shown_reason for row in skipped], dtype=object).value_counts()
    return [(str(reason), int(count)) for reason, count in counts.items()]


def write_run_report(
    output_dir: Path, rows: Sequence[JournalRow], seconds: float, made_with: Mapping[str, object]
) -> Path:
    """Write ``measurements.csv`` of all series and ``report.html``, a page that needs no other file.

    It names series by their folders, and no patient.

    Args:
        output_dir: of the run.
        rows: of its journal.
        seconds: that the run took.
        made_with: what the results depend on, by name.

    Returns:
        The page.

    Raises:
        OSError: When the files cannot be written.
    """
    by_state = {state: [row for row in rows if row.state is state] for state in State}
    done, failed = by_state[State.DONE], by_state[State.FAILED]
    measurements = collect_measurements(output_dir, done)
    has_sizes = len(measurements) > 0
    if has_sizes:
        with whole_file(output_dir / MEASUREMENTS) as unfinished:
            measurements.to_csv(unfinished, index=False)
        measurements = with_sizes(measurements)
    order = unlikeness(measurements) if has_sizes else pd.Series(dtype=float)
    this_run = [row for row in done if (row.finished_at or 0) >= datetime.now().timestamp() - seconds]
    environment = page_environment(Path(__file__).parent)
    environment.filters["discreet"] = discreet
    text = environment.get_template("run_report_template.html").render(
        title="Segmentation of DICOM series",
        version=__version__,
        when=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        counts={state.value: len(found) for state, found in by_state.items()},
        failed=failed[:MAX_LINES],
        more_failed=max(0, len(failed) - MAX_LINES),
        reasons=_reasons(by_state[State.SKIPPED])[:MAX_LINES],
        notes=[(row.key, "; ".join(row.notes)) for row in done if row.notes][:MAX_LINES],
        speed=_speed(this_run, seconds),
        this_run=len(this_run),
        seconds=seconds,
        made_with=made_with,
        sizes=_sizes(measurements) if has_sizes else [],
        pictures=_pictures(output_dir, done, order.to_dict()),
        ordered=has_sizes,
    )
    path = output_dir / "report.html"
    with whole_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
    return path
