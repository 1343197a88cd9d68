"""Wilson against published figures, the size of a test set against brute force, McNemar against the binomial."""

from __future__ import annotations

from math import isnan

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from medloop.errors import UserError
from medloop.metrics.intervals.proportions import (
    cases_needed_for_lower_bound,
    effective_trials,
    mcnemar_exact,
    predictive_values,
    wilson,
    wilson_clustered,
)


@pytest.mark.parametrize(
    ("successes", "n", "lower", "upper"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_agrees_with_the_intervals_that_newcombe_published(
    successes: int, n: int, lower: float, upper: float
) -> None:
    # Newcombe, Two-sided confidence intervals for the single proportion, Statistics in Medicine 17 (1998), table I.
    found = wilson(successes, n)
    assert (found.lower, found.upper) == pytest.approx((lower, upper), abs=5e-5)
    assert (found.value, found.n) == (successes / n, n)


@pytest.mark.parametrize("n", [1, 7, 200])
@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_wilson_agrees_with_scipy_for_every_count(n: int, level: float) -> None:
    for successes in range(n + 1):
        expected = binomtest(successes, n).proportion_ci(level, method="wilson")
        found = wilson(successes, n, level=level)
        assert (found.lower, found.upper) == pytest.approx((expected.low, expected.high), abs=1e-12)
        assert 0 <= found.lower <= found.value <= found.upper <= 1


def test_wilson_of_nothing_is_nan() -> None:
    assert isnan(wilson(0, 0).lower)
    assert wilson(0, 0).note
    assert isnan(wilson_clustered([], []).lower)


def test_groups_of_one_are_plain_wilson() -> None:
    right = np.arange(60) % 4 > 0
    found, plain = wilson_clustered(right, np.arange(60)), wilson(45, 60)
    assert (found.lower, found.upper) == pytest.approx((plain.lower, plain.upper))


@pytest.mark.parametrize("size", [2, 5, 10])
def test_copies_of_a_case_add_no_information(size: int) -> None:
    right = np.arange(400) % 5 > 0
    once, copied = wilson(320, 400), wilson_clustered(np.repeat(right, size), np.repeat(np.arange(400), size))
    assert effective_trials(np.repeat(right, size), np.repeat(np.arange(400), size)).trials == pytest.approx(399)
    assert (copied.lower, copied.upper) == pytest.approx((once.lower, once.upper), abs=1e-3)
    assert copied.n == 400 * size


def test_groups_of_very_unequal_size_count_as_fewer_with_a_note() -> None:
    sizes = np.repeat([1, 12], [24, 6])
    groups = np.repeat(np.arange(30), sizes)
    right = np.isin(groups, [0, 1, 25], invert=True)
    assert effective_trials(right, groups).even_groups == pytest.approx(96**2 / (24 + 6 * 144))
    assert "87 to 94% of samples with groups so unequal" in wilson_clustered(right, groups).note
    perfect = wilson_clustered(np.ones(96, dtype=bool), groups)
    assert perfect.lower < wilson(11, 11).lower
    assert wilson_clustered(right, np.arange(96) // 3).note == ""


def test_groups_never_make_cases_worth_more_than_they_are() -> None:
    right, groups = np.tile([True, False], 30), np.repeat(np.arange(30), 2)
    assert effective_trials(right, groups).trials == 60


def test_predictive_values_are_those_of_bayes_and_hold_their_value() -> None:
    right = np.arange(200) % 10 > 0
    found = effective_trials(right, np.arange(200))
    ppv, npv = predictive_values(found, found, 0.1)
    assert (ppv.value, npv.value) == pytest.approx((0.5, 0.81 / 0.82))
    assert 0.38 < ppv.lower < ppv.value < ppv.upper < 0.65
    assert npv.upper - npv.lower < 0.02


def test_a_flawless_specificity_leaves_the_predictive_value_in_doubt() -> None:
    ppv, _ = predictive_values(effective_trials([True] * 20, range(20)), effective_trials([True] * 20, range(20)), 0.01)
    assert (ppv.value, ppv.upper) == (1.0, 1.0)
    assert ppv.lower < 0.3


def test_without_a_class_there_is_no_predictive_value() -> None:
    ppv, npv = predictive_values(effective_trials([], []), effective_trials([True], [0]), 0.1)
    assert isnan(ppv.value)
    assert isnan(npv.lower)
    assert ppv.note


@pytest.mark.parametrize(("successes", "n", "level"), [(3, 2, 0.95), (-1, 2, 0.95), (1, 2, 95), (1, 2, 0.0)])
def test_impossible_counts_and_levels_are_refused(successes: int, n: int, level: float) -> None:
    with pytest.raises(UserError):
        wilson(successes, n, level=level)


def power_at(n: int, expected: float, floor: float) -> float:
    """Chance that Wilson's lower bound reaches the floor, added up over every count."""
    return float(sum(binom.pmf(k, n, expected) for k in range(n + 1) if wilson(k, n).lower >= floor - 1e-12))


@pytest.mark.parametrize(
    ("expected", "floor", "power"), [(0.95, 0.85, 0.8), (0.9, 0.7, 0.9), (1.0, 0.9, 0.8), (0.6, 0.3, 0.5)]
)
def test_the_number_of_cases_is_the_least_from_which_the_power_holds(
    expected: float, floor: float, power: float
) -> None:
    n = cases_needed_for_lower_bound(expected, floor, power)
    assert power_at(n - 1, expected, floor) < power
    assert all(power_at(size, expected, floor) >= power for size in range(n, n + 25))


def test_a_perfect_sensitivity_of_35_cases_shows_more_than_90_percent() -> None:
    assert cases_needed_for_lower_bound(1.0, 0.9) == 35
    assert wilson(35, 35).lower >= 0.9 > wilson(34, 34).lower


def test_a_nearer_floor_and_more_power_need_more_cases() -> None:
    base = cases_needed_for_lower_bound(0.95, 0.9)
    assert base < cases_needed_for_lower_bound(0.95, 0.92) < cases_needed_for_lower_bound(0.95, 0.9499)
    assert base < cases_needed_for_lower_bound(0.95, 0.9, 0.95)


@pytest.mark.parametrize(
    ("expected", "floor", "power"), [(0.9, 0.9, 0.8), (0.9, 0.0, 0.8), (1.1, 0.9, 0.8), (0.9, 0.8, 1)]
)
def test_a_floor_that_cannot_be_proven_is_refused(expected: float, floor: float, power: float) -> None:
    with pytest.raises(UserError):
        cases_needed_for_lower_bound(expected, floor, power)


def test_mcnemar_counts_the_cases_that_only_one_decides_rightly() -> None:
    y = np.array([0, 1, 2, 2, 1, 0, 0, 1])
    first = np.array([0, 1, 2, 2, 1, 1, 1, 1])
    second = np.array([1, 0, 0, 2, 1, 0, 2, 0])
    found = mcnemar_exact(y, first, second)
    assert (found.only_first, found.only_second, found.n) == (4, 1, 8)
    assert found.p_value == pytest.approx(binomtest(4, 5, 0.5).pvalue)


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (3, 3), (0, 6), (1, 14), (40, 60)])
def test_mcnemar_is_the_exact_binomial_test(wins: int, losses: int) -> None:
    y = np.ones(wins + losses + 5, dtype=int)
    first, second = y.copy(), y.copy()
    second[:wins] = 0
    first[wins : wins + losses] = 0
    expected = binomtest(wins, wins + losses, 0.5).pvalue if wins + losses else 1.0
    assert mcnemar_exact(y, first, second).p_value == pytest.approx(expected)


@pytest.mark.parametrize("second", [[0], [0.5, 0.5], [0, -1], [float("nan"), 0]])
def test_mcnemar_refuses_invalid_decisions(second: list[float]) -> None:
    with pytest.raises(UserError):
        mcnemar_exact([0, 1], [0, 1], second)
