# SPDX-License-Identifier: Apache-2.0
"""Tests of intervals and tests of scores, against SciPy called plainly, enumeration, and known answers."""

from __future__ import annotations

import itertools
from dataclasses import asdict, replace

import numpy as np
import pytest
from scipy import stats

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.evaluation.bootstrap import bootstrap_intervals
from monai_sam2unet.evaluation.statistics import (
    bootstrap_interval,
    holm_adjusted,
    paired_difference,
    paired_differences,
)

NAN = float("nan")


@pytest.fixture
def scores():
    return np.random.default_rng(3).beta(8, 2, size=(60, 3))


def test_interval_is_that_of_scipy(scores):
    found = bootstrap_interval(scores[:, 0], confidence=0.9, num_resamples=2000, seed=5)
    rng = np.random.default_rng(5)
    expected = stats.bootstrap(
        (scores[:, 0],), np.mean, confidence_level=0.9, n_resamples=2000, random_state=rng
    ).confidence_interval
    assert found == pytest.approx(tuple(expected))
    assert found == bootstrap_interval(scores[:, 0], confidence=0.9, num_resamples=2000, seed=5)
    assert found != bootstrap_interval(scores[:, 0], confidence=0.9, num_resamples=2000, seed=6)


def test_interval_holds_the_true_mean_as_often_as_said():
    rng = np.random.default_rng(0)
    intervals = bootstrap_intervals(rng.beta(8, 2, size=(40, 400)), confidence=0.9, num_resamples=999)
    held = np.mean((intervals[:, 0] < 0.8) & (intervals[:, 1] > 0.8))
    assert 0.85 < held < 0.95


def test_all_scores_at_once_are_as_each_by_itself(scores):
    scores[3, 1] = NAN
    scores[:, 2] = 0.25
    at_once = bootstrap_intervals(scores, num_resamples=500)
    for column in range(3):
        assert at_once[column] == pytest.approx(bootstrap_interval(scores[:, column], num_resamples=500))


def test_missing_scores_are_left_out(scores):
    column = scores[:, 0].copy()
    column[10:20] = NAN
    assert bootstrap_interval(column) == bootstrap_interval(np.delete(column, np.arange(10, 20)))


@pytest.mark.parametrize("values", [[], [0.5], [NAN, 0.5, NAN]])
def test_fewer_than_two_cases_have_no_interval(values):
    assert np.isnan(bootstrap_interval(values)).all()


def test_equal_cases_have_an_interval_without_width():
    assert bootstrap_interval([0.3, 0.3, 0.3]) == pytest.approx((0.3, 0.3))
    assert bootstrap_interval([0.1 + 0.2, 0.3, 0.3]) == pytest.approx((0.3, 0.3))


def test_percentiles_where_bca_is_undefined(monkeypatch):
    """SciPy's NaN is replaced by the percentiles of its own draws."""
    original = stats.bootstrap

    def undefined(*args, **kwargs):
        found = original(*args, **kwargs)
        low = np.full_like(found.confidence_interval.low, NAN)
        return replace(found, confidence_interval=found.confidence_interval._replace(low=low, high=low))

    monkeypatch.setattr(stats, "bootstrap", undefined)
    values = np.array([0.1, 0.5, 0.9, 0.95])
    drawn = original((values,), np.mean, n_resamples=999, random_state=np.random.default_rng(0))
    expected = np.quantile(drawn.bootstrap_distribution, [0.025, 0.975])
    assert bootstrap_interval(values, num_resamples=999) == pytest.approx(tuple(expected))


@pytest.mark.parametrize(("confidence", "num_resamples"), [(0, 9), (1, 9), (95, 9), (0.95, 0)])
def test_wrong_settings_are_told(confidence, num_resamples):
    with pytest.raises(ConfigError, match=str(num_resamples if num_resamples == 0 else confidence)):
        bootstrap_interval([0.1, 0.2], confidence, num_resamples)


def exact_p(differences):
    """Two-sided p of the signed-rank test by enumerating all signs."""
    d = np.array([x for x in differences if x != 0])
    ranks = stats.rankdata(np.abs(d))
    observed = abs((np.sign(d) * ranks).sum())
    sums = [abs((np.array(s) * ranks).sum()) for s in itertools.product((-1, 1), repeat=len(d))]
    return np.mean([x >= observed - 1e-9 for x in sums])


def test_p_is_that_of_all_signs():
    d = np.array([0.01, -0.02, 0.03, 0.04, -0.05, 0.06, 0.07, 0.08, 0.09])
    a = np.full(9, 0.5)
    assert paired_difference(a, a + d).p_value == pytest.approx(exact_p(np.round(a + d - a, 9)))


def test_equal_differences_are_tied():
    """0.2 - 0.1 and 0.9 - 0.8 are two numbers to the computer, but one difference."""
    a = np.arange(1, 9) / 10
    d = np.array([1, 1, 1, 1, -1, 1, 1, 1])
    assert len(np.unique(np.abs((a + d / 10) - a))) > 1
    result = paired_difference(a, a + d / 10)
    assert result.p_value == pytest.approx(exact_p(d)) == pytest.approx(0.0703125)
    assert (result.better, result.worse, result.equal) == (7, 1, 0)


@pytest.mark.parametrize("unit", [0.01, 0.5, 0.001, 1 / 16])
@pytest.mark.parametrize("shift", [0, 90])
def test_scores_of_few_decimals_are_tested_as_whole_numbers(unit, shift):
    """Tables of rounded scores, also distances of many millimetres: p and counts are those of the numbers of steps."""
    rng = np.random.default_rng(int(shift + 1000 * unit))
    for _ in range(20):
        a, steps = rng.integers(50, 90, 40), rng.integers(-3, 5, 40)
        first, second = (np.round(shift + x * unit, 4) for x in (a, a + steps))
        result = paired_difference(first, second, lower_is_better=True, num_resamples=9)
        assert result.p_value == pytest.approx(stats.wilcoxon(steps.astype(float)).pvalue, abs=1e-12)
        assert (result.better, result.worse, result.equal) == ((steps < 0).sum(), (steps > 0).sum(), (steps == 0).sum())


def test_each_score_is_rounded_at_its_own_scale():
    """A distance of many millimetres beside Dice: Dice keeps differences that are rounding for the distance."""
    a = np.tile([0.5, 5e6], (6, 1))
    small = np.arange(1, 7)[:, None] * 1e-9
    dice, distance = paired_differences(a, a + small * [1, 1], [False, True], num_resamples=9)
    assert (dice.better, dice.equal) == (6, 0)
    assert (distance.better, distance.worse, distance.equal) == (0, 0, 6)
    for one, other in (([5e6, 0.5, 0.5], [0.5, 0.5 + 1e-9, 0.5 - 1e-9]), ([0.5, 0.5, 0.5], [5e6, 0.5 + 1e-9, 0.5])):
        assert paired_difference(one, other, num_resamples=9).equal == 2


def test_cases_without_difference_are_left_out_of_the_test():
    a = np.array([0.5, 0.6, 0.1, 0.2, 0.3, 0.4])
    b = a + np.array([0, 0, 0.011, 0.022, 0.033, -0.044])
    result = paired_difference(a, b)
    assert result.p_value == pytest.approx(exact_p([0.011, 0.022, 0.033, -0.044]))
    assert (result.n, result.better, result.worse, result.equal) == (6, 3, 1, 2)


def test_no_difference_at_all():
    result = paired_difference([0.3, 0.7, 0.1 + 0.2], [0.3, 0.7, 0.3])
    assert (result.p_value, result.difference, result.low, result.high, result.equal) == (1, 0, 0, 0, 3)


def test_values_of_a_difference():
    a, b = [0.5, NAN, 0.7, 0.9], [0.6, 0.4, 0.9, NAN]
    result = paired_difference(a, b, lower_is_better=True)
    assert (result.n, result.better, result.worse) == (2, 0, 2)
    assert (result.mean_a, result.mean_b, result.difference) == pytest.approx((0.6, 0.75, 0.15))
    assert result.low <= 0.15 <= result.high


def test_no_case_in_common():
    result = paired_difference([0.5, NAN], [NAN, 0.5])
    assert result.n == 0
    assert np.isnan([result.mean_a, result.difference, result.low, result.p_value]).all()


def test_the_interval_is_of_the_differences(scores):
    b = scores + np.random.default_rng(1).normal(0.02, 0.05, scores.shape)
    results = paired_differences(scores, b, [False] * 3, num_resamples=800, seed=2)
    for column, result in enumerate(results):
        expected = bootstrap_interval(b[:, column] - scores[:, column], num_resamples=800, seed=2)
        assert (result.low, result.high) == pytest.approx(expected)
        alone = paired_difference(scores[:, column], b[:, column], num_resamples=800, seed=2)
        assert asdict(result) == pytest.approx(asdict(alone))


def test_shapes_must_agree():
    with pytest.raises(ConfigError, match="two tables of one shape"):
        paired_difference([0.1, 0.2], [0.1])


def test_holm():
    # By hand: 0.01*4, 0.02*3, 0.03*2 (not below the one before), 0.04*1.
    assert holm_adjusted([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm_adjusted([0.5, 0.9]) == pytest.approx([1, 1])
    assert holm_adjusted([]).shape == (0,)


def test_holm_counts_tests_only():
    assert holm_adjusted([NAN, 0.01, NAN, 0.03]) == pytest.approx([NAN, 0.02, NAN, 0.03], nan_ok=True)


def test_holm_keeps_false_alarms_below_the_level():
    """One family of ten true null hypotheses in 1000 repetitions: some p below 0.05 in at most about 5 %."""
    p = np.random.default_rng(0).uniform(size=(1000, 10))
    assert np.mean([(holm_adjusted(row) < 0.05).any() for row in p]) < 0.07
    assert np.mean((p < 0.05).any(1)) > 0.3


def test_holm_takes_probabilities_only():
    with pytest.raises(ConfigError, match="lie in"):
        holm_adjusted([0.1, 1.2])
