"""Intervals over folds against scipy and by hand."""

from __future__ import annotations

from math import isnan, sqrt

import numpy as np
import pytest
from scipy import stats

from medloop.errors import UserError
from medloop.metrics.intervals.folds import mean_std_interval, repeated_cv_interval

FOLDS = [0.91, 0.88, 0.95, 0.90, 0.86]


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_the_plain_interval_is_student_s(level: float) -> None:
    found = mean_std_interval(FOLDS, level=level)
    expected = stats.t.interval(level, 4, np.mean(FOLDS), stats.sem(FOLDS))
    assert (found.lower, found.upper) == pytest.approx(expected)
    assert (found.value, found.std, found.n) == pytest.approx((np.mean(FOLDS), np.std(FOLDS, ddof=1), 5))


def test_the_corrected_interval_adds_the_share_of_test_cases() -> None:
    found = repeated_cv_interval(FOLDS, 0.2)
    reach = 2.7764451051977987 * np.std(FOLDS, ddof=1) * sqrt(1 / 5 + 0.2 / 0.8)
    assert (found.lower, found.upper) == pytest.approx((0.9 - reach, 0.9 + reach))
    assert found.upper - found.lower > mean_std_interval(FOLDS).upper - mean_std_interval(FOLDS).lower


def test_the_corrected_interval_covers_where_the_plain_one_does_not() -> None:
    rng = np.random.default_rng(0)
    covered = np.zeros(2)
    for _ in range(400):
        # Folds that overlap in their training cases err together: correlation 0.2, as the correction supposes.
        values = sqrt(0.2) * rng.normal() + sqrt(0.8) * rng.normal(size=20)
        for place, found in enumerate((mean_std_interval(values), repeated_cv_interval(values, 0.2))):
            covered[place] += found.lower <= 0 <= found.upper
    assert covered[0] / 400 < 0.8
    assert 0.91 < covered[1] / 400 < 0.98


def test_an_undefined_fold_is_left_out_with_a_note() -> None:
    found = mean_std_interval([0.9, float("nan"), 0.8])
    assert (found.value, found.n) == (pytest.approx(0.85), 2)
    assert found.note == "undefined in 1 of 3 folds"


@pytest.mark.parametrize("values", [[], [0.9], [float("nan"), float("nan")]])
def test_fewer_than_two_folds_have_no_interval(values: list[float]) -> None:
    found = mean_std_interval(values)
    assert isnan(found.lower)
    assert found.std is not None
    assert isnan(found.std)
    assert found.note


@pytest.mark.parametrize("fraction", [0.0, 1.0, 20])
def test_an_impossible_fraction_of_test_cases_is_refused(fraction: float) -> None:
    with pytest.raises(UserError):
        repeated_cv_interval(FOLDS, fraction)


def test_a_table_of_folds_is_refused() -> None:
    with pytest.raises(UserError):
        mean_std_interval(np.ones((2, 2)))
