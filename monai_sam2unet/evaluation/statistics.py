# SPDX-License-Identifier: Apache-2.0
"""Whether scores of the same cases differ: paired differences, a test of them, and many tests at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.evaluation.bootstrap import NUM_RESAMPLES, ROUNDING, bootstrap_interval, bootstrap_intervals

__all__ = [
    "NUM_RESAMPLES",
    "PairedDifference",
    "bootstrap_interval",
    "bootstrap_intervals",
    "holm_adjusted",
    "paired_difference",
    "paired_differences",
]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PairedDifference:
    """How one score differs between A and B on the cases that have it in both.

    Attributes:
        n: number of these cases.
        mean_a: mean of A over them; NaN without cases, as all numbers below.
        mean_b: mean of B over them.
        difference: mean of B - A.
        low: lower end of the difference's confidence interval.
        high: its upper end.
        p_value: of Wilcoxon's signed-rank test, two-sided.
        better: number of cases in which B is better.
        worse: number of cases in which B is worse.
        equal: number of cases in which both are equal, up to rounding.
    """

    n: int
    mean_a: float
    mean_b: float
    difference: float
    low: float
    high: float
    p_value: float
    better: int
    worse: int
    equal: int


def _rounded(differences: Array, first: Array, second: Array) -> Array:
    """Differences (N, K) of scores without the rounding of the subtraction, so that equal ones are equal numbers.

    0.2 - 0.1 and 0.9 - 0.8 are two numbers to the computer, and would not share a rank. Twelve decimals are kept, of
    columns with scores above 1 twelve digits of the largest. The steps are powers of ten: differences of scores of few
    decimals, as tables give them, then lie on a step, never between two.
    """
    scores = np.abs(np.concatenate([first, second]))
    largest = np.max(scores, axis=0, where=np.isfinite(scores), initial=1)
    steps = ROUNDING * 10.0 ** np.ceil(np.log10(largest))
    rounded: Array = np.rint(differences / steps) * steps
    return rounded


def _wilcoxon_p(differences: Array) -> float:
    if not differences.size:
        return float("nan")
    if not differences.any():
        return 1.0
    return float(stats.wilcoxon(differences, zero_method="wilcox", alternative="two-sided").pvalue)


def paired_differences(
    a: ArrayLike,
    b: ArrayLike,
    lower_is_better: Sequence[bool],
    confidence: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> list[PairedDifference]:
    """Compare several scores of the same cases, all with the same draws of the cases.

    The interval is that of :func:`bootstrap_intervals`, of the differences. The p-value is that of Wilcoxon's
    signed-rank test (:func:`scipy.stats.wilcoxon`): it asks whether the differences lie symmetrically about 0. Cases
    without a difference are left out of the test (``zero_method="wilcox"``) and counted as ``equal``; where no case
    differs, p is 1. Differences of the same size share their mean rank; differences are rounded to twelve decimals, of
    scores above 1 to twelve digits of the largest, lest equal ones differ by the computer's rounding. p is exact for up
    to 50 cases (25 in older versions of SciPy) without equal cases or ties, else mostly of the normal approximation,
    corrected for ties.

    Args:
        a: (N, K), cases by scores; NaN is not counted.
        b: (N, K), the same cases and scores.
        lower_is_better: for each score, whether a smaller value is the better one.
        confidence: of the intervals, in (0, 1).
        num_resamples: how often the cases are drawn.
        seed: of the draws.

    Returns:
        One result for each score; only cases are counted that have it in both.

    Raises:
        ConfigError: When the shapes do not agree or are not (N, K), ``confidence`` is outside (0, 1), or
            ``num_resamples`` below 1.
    """
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if first.ndim != 2 or first.shape != second.shape or len(lower_is_better) != first.shape[1]:
        raise ConfigError(
            f"Expected are two tables of one shape (cases, scores) and a direction for each score, got {first.shape}, "
            f"{second.shape} and {len(lower_is_better)} directions."
        )
    differences = _rounded(second - first, first, second)
    intervals = bootstrap_intervals(differences, confidence, num_resamples, seed)
    results = []
    for column, (low, high) in enumerate(intervals):
        counted = ~np.isnan(differences[:, column])
        change = differences[counted, column]
        n = int(counted.sum())
        mean_a, mean_b, mean = (
            float(x[counted, column].mean()) if n else float("nan") for x in (first, second, differences)
        )
        gain = -change if lower_is_better[column] else change
        better, worse = int((gain > 0).sum()), int((gain < 0).sum())
        p_value = _wilcoxon_p(change)
        results.append(
            PairedDifference(
                n, mean_a, mean_b, mean, float(low), float(high), p_value, better, worse, n - better - worse
            )
        )
    return results


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    lower_is_better: bool = False,
    confidence: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> PairedDifference:
    """Compare one score of the same cases; see :func:`paired_differences`.

    Args:
        a: (N,), the score of each case; NaN is not counted.
        b: (N,), the same cases.
        lower_is_better: whether a smaller value is the better one.
        confidence: of the interval, in (0, 1).
        num_resamples: how often the cases are drawn.
        seed: of the draws.

    Returns:
        The result over cases that have the score in both.

    Raises:
        ConfigError: When the numbers of cases differ, ``confidence`` is outside (0, 1), or ``num_resamples`` below 1.

    Example:
        >>> result = paired_difference([0.5, 0.6, 0.7, 0.8], [0.6, 0.8, 0.7, 0.9])
        >>> round(result.difference, 3), result.better, result.worse, result.equal, result.p_value
        (0.1, 3, 0, 1, 0.25)
    """
    first, second = (np.asarray(x, np.float64).reshape(-1, 1) for x in (a, b))
    return paired_differences(first, second, [lower_is_better], confidence, num_resamples, seed)[0]


def holm_adjusted(p_values: ArrayLike) -> Array:
    """Adjust p-values for the number of tests, after Holm.

    Calling all tests with an adjusted p below 0.05 significant keeps the chance of even one false alarm below 5 %,
    however the tests depend on each other.

    Args:
        p_values: (K,), in [0, 1]; NaN is no test: it is not counted and stays NaN.

    Returns:
        Adjusted p-values (K,), in [0, 1], never below the given ones.

    Raises:
        ConfigError: When a value lies outside [0, 1].

    Example:
        >>> holm_adjusted([0.01, 0.04, 0.03]).round(6).tolist()
        [0.03, 0.06, 0.06]
    """
    given = np.asarray(p_values, dtype=np.float64).ravel()
    if ((given < 0) | (given > 1)).any():
        raise ConfigError(f"p-values lie in [0, 1], got {given.tolist()}.")
    tests = np.flatnonzero(~np.isnan(given))
    order = tests[np.argsort(given[tests], kind="stable")]
    adjusted = given.copy()
    adjusted[order] = np.minimum(1, np.maximum.accumulate(given[order] * np.arange(len(order), 0, -1)))
    return adjusted
