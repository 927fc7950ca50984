# SPDX-License-Identifier: Apache-2.0
"""Compares the scores of two evaluations case by case: how large the differences are, and how sure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from monai_sam2unet.errors import ConfigError, DataError, listing
from monai_sam2unet.evaluation.case_pairs import PairedCases, pair_cases, read_scores
from monai_sam2unet.evaluation.columns import MAXIMA, is_lower_better
from monai_sam2unet.evaluation.comparison_plot import draw_differences
from monai_sam2unet.evaluation.measured_settings import (
    different_settings,
    read_measured_settings,
    unknown_settings,
)
from monai_sam2unet.evaluation.statistics import NUM_RESAMPLES, holm_adjusted, paired_differences

__all__ = ["ALL_SETS", "Comparison", "compare_scores", "write_comparison"]

#: Name of the rows over the cases of all sets together, unless a set has it.
ALL_SETS = "all sets"


@dataclass(frozen=True)
class Comparison:
    """Result of :func:`compare_scores`.

    Attributes:
        table: a row for each set and score: ``dataset, metric, lower_is_better, n, in_one_only, mean_a, mean_b,
            difference, low, high, p_value, p_holm, better, worse, equal``; ``difference`` is B - A, ``low`` and
            ``high`` the ends of its interval, ``in_one_only`` the number of paired cases left out because only one of
            the two has the score. Rows without any case (``n`` 0) are left out.
        pairs: the paired cases and what has no partner.
        names: what A and B are called.
        settings: confidence, number of resamples, seed, and the number of tests that Holm's adjustment counts.
        measured: how A and B were measured, as far as that is known.
        notes: sentences on what to mind: settings that differ or are not known, and scores that were left out.
    """

    table: pd.DataFrame
    pairs: PairedCases
    names: tuple[str, str]
    settings: dict[str, Any]
    measured: tuple[dict[str, Any], dict[str, Any]]
    notes: list[str]


def _compare_settings(
    a: str | Path, b: str | Path, names: tuple[str, str], allow_different: bool
) -> tuple[tuple[dict[str, Any], dict[str, Any]], list[str]]:
    """How both were measured, and what to say about it."""
    measured = read_measured_settings(a), read_measured_settings(b)
    different = different_settings(*measured, names)
    if different and not allow_different:
        raise DataError(
            f"{names[0]} and {names[1]} were measured differently:\n{listing(different)}\n"
            "Measure both in the same way, or compare them all the same with `--allow-different-settings`."
        )
    told = [f"Measured differently: {'; '.join(different)}."] if different else []
    return measured, told + unknown_settings(*measured, names)


def _leave_out_empty(table: pd.DataFrame, pooled: str, chosen: bool) -> tuple[pd.DataFrame, list[str]]:
    """The rows that have cases, and which have none."""
    empty = table[table["n"] == 0]
    kept = table[table["n"] > 0].reset_index(drop=True)
    absent = [name for name in dict.fromkeys(empty["metric"]) if name not in set(kept["metric"])]
    if absent and (chosen or kept.empty):
        raise DataError(f"No image has a score in both A and B of {', '.join(absent)}, so there is nothing to compare.")
    lines = []
    for metric in dict.fromkeys(empty["metric"]):
        rows = empty[(empty["metric"] == metric) & (empty["dataset"] != pooled)]
        sets = [] if metric in absent else rows["dataset"].tolist()
        # Nobody expects these: one of the two has the score, and it would be lost with the row.
        one_only = int(rows["in_one_only"].sum())
        sets += [f"{one_only} images have it in one of the two"] if one_only else []
        lines.append(metric + (f" ({', '.join(sets)})" if sets else ""))
    return kept, [f"Left out, for no image has the score in both: {'; '.join(lines)}."] if lines else []


def compare_scores(
    a: str | Path,
    b: str | Path,
    metrics: Sequence[str] | None = None,
    *,
    names: tuple[str, str] = ("A", "B"),
    allow_unpaired: bool = False,
    allow_different_settings: bool = False,
    lower_is_better: Sequence[str] = (),
    confidence: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compare two evaluations of the same images: B against A.

    Differences, intervals and tests are those of :func:`monai_sam2unet.evaluation.statistics.paired_differences`, for
    each set by itself and, of several, for all cases together, but for maxima over thresholds, since each set has a
    threshold of its own. All p-values of the resulting table are one family for
    Holm's adjustment.

    Args:
        a: ``metrics.csv``, or the folder that holds it.
        b: another.
        metrics: the scores to compare; all that both have, if None.
        names: what A and B are called.
        allow_unpaired: whether cases of one table only are left out, instead of being an error.
        allow_different_settings: whether evaluations that were measured differently are compared all the same; see
            :data:`monai_sam2unet.evaluation.measured_settings.MEASURED_SETTINGS`.
        lower_is_better: scores that are best when small, besides those that the package knows.
        confidence: of the intervals, in (0, 1).
        num_resamples: how often the cases are drawn.
        seed: of the draws.

    Returns:
        The table, the pairs, and what was left out.

    Raises:
        ConfigError: When a metric, direction or other setting is not allowed.
        DataError: When a table cannot be read; cases do not pair, see
            :func:`monai_sam2unet.evaluation.case_pairs.pair_cases`; A and B were measured differently; or no case has
            one of the given ``metrics``, or any score at all, in both.
    """
    scores = read_scores(a), read_scores(b)
    measured, notes = _compare_settings(a, b, names, allow_different_settings)
    pairs = pair_cases(*scores, metrics, allow_unpaired)
    columns = list(pairs.a)
    unknown = [name for name in lower_is_better if name not in columns]
    if unknown:
        raise ConfigError(f"{', '.join(unknown)} is not compared, so it has no direction; there are {columns}.")
    lower = [is_lower_better(str(name)) or name in lower_is_better for name in columns]
    datasets = pairs.cases["dataset"]
    sets = {str(name): datasets == name for name in dict.fromkeys(datasets)}
    pooled = ALL_SETS
    while pooled in sets:
        pooled += " together"
    if len(sets) > 1:
        sets[pooled] = datasets == datasets
    rows: list[dict[str, Any]] = []
    for name, chosen in sets.items():
        of_a, of_b = pairs.a[chosen], pairs.b[chosen]
        one_only = (of_a.isna() != of_b.isna()).sum()
        found = paired_differences(of_a.to_numpy(), of_b.to_numpy(), lower, confidence, num_resamples, seed)
        for metric, is_lower, result in zip(columns, lower, found, strict=True):
            if name == pooled and metric in MAXIMA:
                continue
            values = {"in_one_only": int(one_only[metric]), **asdict(result)}
            rows.append({"dataset": name, "metric": metric, "lower_is_better": is_lower, **values})
    table = pd.DataFrame(rows)
    table.insert(list(table).index("p_value") + 1, "p_holm", holm_adjusted(table["p_value"]))
    table.insert(3, "n", table.pop("n"))
    table, left_out = _leave_out_empty(table, pooled, metrics is not None)
    settings = {
        "confidence": confidence,
        "num_resamples": num_resamples,
        "seed": seed,
        "tests_in_family": int(table["p_value"].notna().sum()),
    }
    return Comparison(table, pairs, names, settings, measured, notes + left_out)


def write_comparison(comparison: Comparison, output_dir: str | Path) -> list[Path]:
    """Write ``comparison.csv``, ``comparison.json`` and ``comparison.png``.

    Args:
        comparison: what to write.
        output_dir: folder; made if it is missing.

    Returns:
        The files.
    """
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"comparison.{suffix}" for suffix in ("csv", "json", "png")]
    comparison.table.to_csv(files[0], index=False)
    pairs = comparison.pairs
    rows = comparison.table.astype(object).where(comparison.table.notna(), None).to_dict("records")
    content = {
        "names": dict(zip("AB", comparison.names, strict=True)),
        "settings": comparison.settings,
        "measured": dict(zip("AB", comparison.measured, strict=True)),
        "notes": comparison.notes,
        "rows": rows,
        "unpaired": {"A": pairs.unpaired_a, "B": pairs.unpaired_b},
        "not_compared": {"A": pairs.only_a, "B": pairs.only_b},
    }
    files[1].write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    draw_differences(
        files[2],
        comparison.table,
        pairs.b - pairs.a,
        pairs.cases["dataset"],
        comparison.names,
        comparison.settings["confidence"],
    )
    return files
