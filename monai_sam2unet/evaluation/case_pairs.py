# SPDX-License-Identifier: Apache-2.0
"""Reads two tables of scores and finds which row of one belongs to which of the other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from monai_sam2unet.data import IMAGE_SUFFIXES
from monai_sam2unet.errors import ConfigError, DataError, listing
from monai_sam2unet.evaluation.columns import IDENTITY_COLUMNS, VOLUME_IDENTITY_COLUMNS

__all__ = ["PairedCases", "pair_cases", "pair_names", "read_scores"]

CASE = ["dataset", "image"]
#: Of pictures, and of volumes.
SIZES = (["height", "width"], ["size_x", "size_y", "size_z"])
NO_SCORES = {*IDENTITY_COLUMNS, *VOLUME_IDENTITY_COLUMNS}
SUFFIXES = (".nii.gz", ".nii", ".dcm", *IMAGE_SUFFIXES)


def read_scores(path: str | Path) -> pd.DataFrame:
    """Read the scores of one evaluation.

    Args:
        path: a ``metrics.csv``, or the folder that holds it: columns ``dataset`` and ``image``, which together name a
            case, then scores; an empty cell, as ``nan``, is no score.

    Returns:
        Names as text, all else float64; columns that hold other text stay as they are.

    Raises:
        DataError: When there is no such file, it is no such table, has no case, names a case twice, or holds an
            infinite score.
    """
    path = Path(path)
    file = path / "metrics.csv" if path.is_dir() else path
    if not file.is_file():
        raise DataError(f"There is no {file}. Give the metrics.csv of an evaluation, or the folder that holds it.")
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(f"{file} is no table of comma-separated values: {error}") from error
    missing = [name for name in CASE if name not in table]
    if missing:
        raise DataError(f"{file} has no column {', '.join(missing)}. Its columns are {', '.join(map(str, table))}.")
    if table.empty:
        raise DataError(f"{file} holds no case.")
    twice = table[table.duplicated(CASE)]
    if len(twice):
        lines = [f"{row.dataset}: {row.image}" for row in twice.itertuples()]
        raise DataError(f"{file} names cases twice; keep one row of each:\n{listing(lines)}")
    for column in table.columns.difference(CASE, sort=False):
        numbers = pd.to_numeric(table[column], errors="coerce")
        empty = table[column].str.strip().str.lower().isin(["", "nan"])
        if (numbers.isna() & ~empty).any():
            continue
        if np.isinf(numbers).any():
            image = table["image"][np.isinf(numbers)].iloc[0]
            raise DataError(
                f"{file}: {column} is infinite, first of {image}, so it has no mean. Leave the cell empty "
                "where a score is not defined."
            )
        table[column] = numbers.astype(np.float64)
    return table


def _parts(name: str, with_suffix: bool) -> tuple[str, ...]:
    *folders, last = [part for part in re.split(r"[\\/]+", name) if part not in ("", ".")] or [name]
    suffix = next((s for s in SUFFIXES if last.lower().endswith(s) and len(last) > len(s)), "")
    return (*folders, last if with_suffix or not suffix else last[: -len(suffix)])


def pair_names(names_a: Sequence[str], names_b: Sequence[str]) -> list[tuple[int, int]]:
    r"""Pair the images of one set, whose paths may be of two machines, by the ends of their paths.

    The file's name without suffix decides where it tells all images of A apart, and all of B. Where it does not, the
    folder above it is added, then the next, as few as tell all apart; then the same with suffixes. So one rule holds
    for all images of the set, and no image is paired by guess: with ``p1/1.png`` and ``p2/1.png`` in A, ``1.png`` in B
    stays without a partner.

    Args:
        names_a: paths with ``/`` or ``\``.
        names_b: as well.

    Returns:
        Indices in A and in B of each pair, in A's order.

    Raises:
        DataError: When one file is named twice, in two spellings.

    Example:
        >>> pair_names(["/data/p1/1.png", "/data/p2/1.png"], ["D:\\sets\\p2\\1.jpg", "D:\\sets\\p1\\1.jpg"])
        [(0, 1), (1, 0)]
    """
    for with_suffix in (False, True):
        a, b = ([_parts(name, with_suffix) for name in names] for names in (names_a, names_b))
        for depth in range(1, max(map(len, [*a, *b]), default=0) + 1):
            tails_a, tails_b = ({parts[-depth:]: i for i, parts in enumerate(all_parts)} for all_parts in (a, b))
            if len(tails_a) == len(a) and len(tails_b) == len(b):
                return [(i, tails_b[tail]) for tail, i in tails_a.items() if tail in tails_b]
    raise DataError(f"An image is named twice, in two spellings, among:\n{listing([*names_a, *names_b])}")


@dataclass(frozen=True)
class PairedCases:
    """The cases that two evaluations have in common.

    Attributes:
        cases: ``dataset`` and ``image`` (A's name) of each pair.
        a: scores of A, a row a pair, a column a score.
        b: scores of B, the same rows and columns.
        unpaired_a: ``dataset: image`` of A's cases without a partner.
        unpaired_b: the same of B.
        only_a: columns of A that are not compared: B lacks them, or they are no numbers.
        only_b: the same of B.
    """

    cases: pd.DataFrame
    a: pd.DataFrame
    b: pd.DataFrame
    unpaired_a: list[str]
    unpaired_b: list[str]
    only_a: list[str]
    only_b: list[str]


def _unpaired(table: pd.DataFrame, paired: Sequence[int]) -> list[str]:
    rest = table.drop(index=list(paired))
    return [f"{row.dataset}: {row.image}" for row in rest.itertuples()]


def _check_sizes(a: pd.DataFrame, b: pd.DataFrame) -> None:
    """Two images of one name are one image only if they have one size, as far as sizes are known."""
    for columns in SIZES:
        if not all(name in table for name in columns for table in (a, b)):
            continue
        sizes_a, sizes_b = a[columns].to_numpy(), b[columns].to_numpy()
        other = ((sizes_a != sizes_b) & ~pd.isna(sizes_a) & ~pd.isna(sizes_b)).any(1)
        if other.any():
            lines = [
                f"{x['dataset']}: {x['image']} ({_size(x, columns)}) and {y['image']} ({_size(y, columns)})"
                for (_, x), (_, y) in zip(a[other].iterrows(), b[other].iterrows(), strict=True)
            ]
            raise DataError(f"Images of the same names have other sizes, so they differ:\n{listing(lines)}")


def _size(row: pd.Series, columns: Sequence[str]) -> str:
    return "x".join(f"{row[name]:g}" for name in columns)


def pair_cases(
    a: pd.DataFrame, b: pd.DataFrame, metrics: Sequence[str] | None = None, allow_unpaired: bool = False
) -> PairedCases:
    """Pair the cases of two tables: of the same ``dataset``, and of one image by :func:`pair_names`.

    Args:
        a: a table as :func:`read_scores` gives it.
        b: another.
        metrics: the columns to compare, each once; all that both have, if None.
        allow_unpaired: whether cases without a partner are left out, instead of being an error.

    Returns:
        The pairs, and what is left out.

    Raises:
        ConfigError: When one of ``metrics`` is no score of both.
        DataError: When cases have no partner (they are listed) and are not allowed to, none has one (the sets of both
            are named), images of one name have other sizes, or the tables have no score in common.
    """
    scores_a, scores_b = (
        [str(c) for c in t if c not in NO_SCORES and pd.api.types.is_numeric_dtype(t[c])] for t in (a, b)
    )
    shared = [name for name in scores_a if name in scores_b]
    if not shared:
        raise DataError(
            f"The tables have no score in common: {', '.join(scores_a) or 'none'} against "
            f"{', '.join(scores_b) or 'none'}."
        )
    unknown = [name for name in metrics or () if name not in shared]
    if unknown:
        raise ConfigError(f"{', '.join(unknown)} can not be compared. The scores of both are {', '.join(shared)}.")

    a, b = a.reset_index(drop=True), b.reset_index(drop=True)
    rows: list[tuple[int, int]] = []
    for name in dict.fromkeys(a["dataset"]):
        of_a, of_b = (t.index[t["dataset"] == name].to_numpy() for t in (a, b))
        pairs = pair_names(a["image"][of_a].tolist(), b["image"][of_b].tolist())
        rows += [(int(of_a[i]), int(of_b[j])) for i, j in pairs]
    rows_a, rows_b = [i for i, _ in rows], [j for _, j in rows]
    unpaired_a, unpaired_b = _unpaired(a, rows_a), _unpaired(b, rows_b)
    lines = [f"only in A: {name}" for name in unpaired_a] + [f"only in B: {name}" for name in unpaired_b]
    if not rows:
        sets_a, sets_b = (", ".join(dict.fromkeys(t["dataset"])) for t in (a, b))
        raise DataError(
            "No case of A is in B. Images pair if their names agree, and those of their sets (the column `dataset`; "
            "`sam2unet evaluate --name` sets it for a folder of maps).\n"
            f"Sets of A: {sets_a}\nSets of B: {sets_b}\n"
            f"Images of A:\n{listing(unpaired_a, 5)}\nImages of B:\n{listing(unpaired_b, 5)}"
        )
    if lines and not allow_unpaired:
        raise DataError(
            f"{len(lines)} cases have no partner. Evaluate both on the same images, or leave these out with "
            f"`--allow-unpaired`:\n{listing(lines)}"
        )
    of_pairs = [t.iloc[i].reset_index(drop=True) for t, i in ((a, rows_a), (b, rows_b))]
    _check_sizes(*of_pairs)
    wanted = list(dict.fromkeys(metrics)) if metrics else shared
    only_a, only_b = ([str(c) for c in t if c not in (*shared, *NO_SCORES)] for t in (a, b))
    return PairedCases(
        of_pairs[0][CASE], of_pairs[0][wanted], of_pairs[1][wanted], unpaired_a, unpaired_b, only_a, only_b
    )
