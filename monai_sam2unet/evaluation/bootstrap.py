# SPDX-License-Identifier: Apache-2.0
"""Confidence intervals of mean scores, by drawing the cases anew."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from monai_sam2unet.errors import ConfigError

__all__ = ["NUM_RESAMPLES", "ROUNDING", "bootstrap_interval", "bootstrap_intervals"]

Array = NDArray[np.float64]

#: How often the cases are drawn anew.
NUM_RESAMPLES = 9999

#: Share of a score that is rounding: 0.1 + 0.2 and 0.3 are one and the same.
ROUNDING = 1e-12
# Numbers held at once while resampling: 64 MB.
BLOCK = 8_000_000


def _check(confidence: float, num_resamples: int) -> None:
    if not 0 < confidence < 1:
        raise ConfigError(f"The confidence must lie between 0 and 1 (0.95 for 95 %), got {confidence}.")
    if num_resamples < 1:
        raise ConfigError(f"num_resamples must be at least 1, got {num_resamples}.")


def _intervals_of_complete(columns: Array, confidence: float, num_resamples: int, seed: int) -> Array:
    """Intervals (K, 2) of the means of columns (K, N) without NaN, all from the same draws of the cases."""
    number, cases = columns.shape
    if cases < 2:
        return np.full((number, 2), np.nan)
    mean = columns.mean(1)
    found = np.stack([mean, mean], 1)
    varied = np.ptp(columns, axis=1) > ROUNDING * np.maximum(1, np.abs(mean))
    if not varied.any():
        return found
    data = (columns[varied],)
    with warnings.catch_warnings():
        # Where BCa is undefined SciPy warns and gives NaN; those rows are taken up below.
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        drawn = stats.bootstrap(
            data,
            np.mean,
            axis=-1,
            confidence_level=confidence,
            n_resamples=num_resamples,
            batch=max(1, BLOCK // data[0].size),
            method="BCa",
            random_state=np.random.default_rng(seed),
        )
    interval = np.stack([drawn.confidence_interval.low, drawn.confidence_interval.high], 1)
    undefined = np.isnan(interval).any(1)
    if undefined.any():
        tails = [(1 - confidence) / 2, (1 + confidence) / 2]
        interval[undefined] = np.quantile(drawn.bootstrap_distribution[undefined], tails, axis=-1).T
    found[varied] = interval
    return found


def bootstrap_intervals(
    values: ArrayLike, confidence: float = 0.95, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Array:
    """Confidence intervals of the means over cases, of several scores at once.

    The cases are drawn with replacement, once for all scores that have the same cases, by
    :func:`scipy.stats.bootstrap`; the intervals are bias-corrected and accelerated (BCa), with three exceptions:

    - fewer than two cases: both ends are NaN, for nothing is known of the spread;
    - all cases equal: both ends are that value;
    - BCa is undefined otherwise, as may happen with very few cases: the percentile interval of the same draws.

    Args:
        values: (N, K), cases by scores; NaN is not counted.
        confidence: share of intervals that hold the true mean, in (0, 1).
        num_resamples: how often the cases are drawn.
        seed: of the draws.

    Returns:
        Lower and upper ends, (K, 2), in the unit of the scores.

    Raises:
        ConfigError: When ``confidence`` is outside (0, 1), ``num_resamples`` below 1, or ``values`` not of two
            dimensions.
    """
    _check(confidence, num_resamples)
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2:
        raise ConfigError(f"Expected is a table (cases, scores), got an array of shape {table.shape}.")
    intervals = np.full((table.shape[1], 2), np.nan)
    if not table.size:
        return intervals
    counted = ~np.isnan(table)
    patterns, kind_of = np.unique(counted, axis=1, return_inverse=True)
    for kind in range(patterns.shape[1]):
        columns = np.flatnonzero(np.ravel(kind_of) == kind)
        complete = np.ascontiguousarray(table[np.ix_(patterns[:, kind], columns)].T)
        intervals[columns] = _intervals_of_complete(complete, confidence, num_resamples, seed)
    return intervals


def bootstrap_interval(
    values: ArrayLike, confidence: float = 0.95, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Confidence interval of the mean of one score over cases; see :func:`bootstrap_intervals`.

    Args:
        values: (N,), a score of each case; NaN is not counted.
        confidence: share of intervals that hold the true mean, in (0, 1).
        num_resamples: how often the cases are drawn.
        seed: of the draws.

    Returns:
        Lower and upper end, in the unit of the score; NaN with fewer than two cases.

    Raises:
        ConfigError: When ``confidence`` is outside (0, 1), or ``num_resamples`` below 1.

    Example:
        >>> low, high = bootstrap_interval([0.7, 0.9, 0.8, 0.6, 0.85, float("nan")])
        >>> low < 0.77 < high
        True
        >>> bootstrap_interval([0.5, 0.5, 0.5])
        (0.5, 0.5)
    """
    low, high = bootstrap_intervals(np.asarray(values, np.float64).reshape(-1, 1), confidence, num_resamples, seed)[0]
    return float(low), float(high)
