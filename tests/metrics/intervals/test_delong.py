"""DeLong's variance against the O(mn) definition, and the bounds without a variance."""

from __future__ import annotations

import time
from math import isnan, log, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medloop.errors import UserError
from medloop.metrics.intervals.delong import delong, delong_paired, place
from medloop.metrics.view import FloatArray, IntArray


def wins(y: IntArray, score: FloatArray) -> FloatArray:
    """One entry a pair: 1 where the positive case scores higher, a half for a tie."""
    high, low = score[y == 1][:, None], score[y == 0][None, :]
    return np.where(high > low, 1.0, np.where(high == low, 0.5, 0.0))


def slow_covariance(y: IntArray, a: FloatArray, b: FloatArray) -> float:
    """Covariance of two areas as DeLong, DeLong and Clarke-Pearson (1988) define it."""
    by_a, by_b = wins(y, a), wins(y, b)
    m, n = by_a.shape
    over_positives = np.cov(by_a.mean(axis=1), by_b.mean(axis=1))[0, 1] / m
    over_negatives = np.cov(by_a.mean(axis=0), by_b.mean(axis=0))[0, 1] / n
    return float(over_positives + over_negatives)


def scored(seed: int) -> tuple[IntArray, FloatArray, FloatArray]:
    """Two related scores of few values, on classes of uneven size."""
    rng = np.random.default_rng(seed)
    y = np.r_[np.ones(int(rng.integers(4, 40)), dtype=int), np.zeros(int(rng.integers(4, 60)), dtype=int)]
    rng.shuffle(y)
    latent = y + rng.normal(size=y.size)
    first, second = (np.round(latent + rng.normal(size=y.size), int(rng.integers(0, 3))) for _ in range(2))
    return y, first, second


def test_area_and_variance_are_those_of_the_slow_definition_on_a_thousand_data_sets_with_ties() -> None:
    for seed in range(1000):
        y, score, _ = scored(seed)
        placed = place(y == 1, score)
        assert abs(placed.auc - wins(y, score).mean()) < 1e-12, seed
        assert abs(placed.variance - slow_covariance(y, score, score)) < 1e-9, seed


def test_a_thousand_cases_with_ties_have_the_variance_of_the_slow_definition() -> None:
    rng = np.random.default_rng(4)
    y = rng.integers(0, 2, 1000)
    score = np.round(y + rng.normal(size=1000), 1)
    assert np.unique(score).size < 100
    assert place(y == 1, score).variance == pytest.approx(slow_covariance(y, score, score), rel=1e-9)


@pytest.mark.parametrize("seed", range(40))
def test_the_paired_interval_is_that_of_the_slow_definition(seed: int) -> None:
    y, a, b = scored(seed)
    found = delong_paired(y, a, b)
    variance = slow_covariance(y, a, a) + slow_covariance(y, b, b) - 2 * slow_covariance(y, a, b)
    difference = wins(y, a).mean() - wins(y, b).mean()
    assert found.difference == pytest.approx(difference, abs=1e-12)
    assert found.upper - found.lower == pytest.approx(2 * 1.959963984540054 * sqrt(variance), abs=1e-9)
    assert (found.p_value < 0.05) == (found.lower > 0 or found.upper < 0)


def test_the_interval_is_symmetric_in_log_odds() -> None:
    y, score, _ = scored(1)
    found = delong(y, score)
    placed = place(y == 1, score)
    middle, low, high = (log(area / (1 - area)) for area in (found.value, found.lower, found.upper))
    reach = 1.959963984540054 * sqrt(placed.variance) / (placed.auc * (1 - placed.auc))
    assert (high - middle, middle - low) == pytest.approx((reach, reach), rel=1e-9)
    assert found.n == y.size
    assert found.method == "DeLong, logit"


def test_a_wider_level_is_a_wider_interval() -> None:
    y, score, _ = scored(1)
    narrow, wide = delong(y, score, level=0.8), delong(y, score, level=0.99)
    assert wide.lower < narrow.lower < narrow.upper < wide.upper


def test_perfect_order_is_bounded_by_its_disjoint_pairs() -> None:
    y = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1])
    found = delong(y, np.arange(10.0))
    assert (found.value, found.upper) == (1.0, 1.0)
    assert found.lower**4 == pytest.approx(0.025)
    assert "4 disjoint pairs" in found.method


def test_reversed_order_is_the_mirror_of_perfect_order() -> None:
    y = np.array([0, 0, 0, 1, 1])
    right, wrong = delong(y, np.arange(5.0)), delong(1 - y, np.arange(5.0))
    assert (wrong.value, wrong.lower, wrong.upper) == pytest.approx((0.0, 0.0, 1 - right.lower))


@pytest.mark.parametrize(
    ("y", "score"),
    [([0, 0, 1, 1], [0.5, 0.5, 0.5, 0.5]), ([0, 0, 0, 1], [0.1, 0.2, 0.9, 0.5])],
    ids=["constant score", "one positive"],
)
def test_without_a_variance_the_largest_possible_one_is_used(y: list[int], score: list[float]) -> None:
    found = delong(np.array(y), score)
    assert 0 <= found.lower < found.value < found.upper <= 1
    assert found.upper - found.lower > 0.7
    assert "largest possible" in found.method


@pytest.mark.parametrize("y", [[0, 0, 0], [1, 1, 1], []])
def test_one_class_has_no_area(y: list[int]) -> None:
    found = delong(np.array(y, dtype=int), np.arange(float(len(y))))
    assert all(isnan(value) for value in (found.value, found.lower, found.upper))
    assert "only one class" in found.note
    assert isnan(delong_paired(np.array(y, dtype=int), np.zeros(len(y)), np.zeros(len(y))).p_value)


def test_a_score_does_not_differ_from_itself() -> None:
    y, score, _ = scored(2)
    found = delong_paired(y, score, score * 3 - 1)
    assert (found.difference, found.p_value) == (0.0, 1.0)
    assert found.lower <= 0 <= found.upper


def test_two_perfect_scores_are_not_proven_equal_by_few_cases() -> None:
    y = np.array([0, 0, 0, 1, 1, 1])
    found = delong_paired(y, np.arange(6.0), np.array([2.0, 1, 0, 5, 4, 3]))
    assert found.difference == 0
    assert found.lower < -0.5
    assert found.upper > 0.5


def test_first_minus_second_is_antisymmetric() -> None:
    y, a, b = scored(3)
    there, back = delong_paired(y, a, b), delong_paired(y, b, a)
    assert (there.difference, there.lower, there.p_value) == pytest.approx(
        (-back.difference, -back.upper, back.p_value)
    )


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(-3, 3)), max_size=20))
@settings(max_examples=300, deadline=None)
def test_the_interval_holds_the_area_and_stays_within_bounds(drawn: list[tuple[int, int]]) -> None:
    y = np.array([truth for truth, _ in drawn], dtype=int)
    found = delong(y, np.array([float(score) for _, score in drawn]))
    assert isnan(found.value) if len(set(y)) < 2 else 0 <= found.lower <= found.value <= found.upper <= 1


def test_the_area_of_a_hundred_thousand_cases_and_its_interval_take_less_than_a_second_of_a_core() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 100_000)
    score = np.round(y + rng.normal(size=y.size), 3)
    started = time.process_time()
    assert delong(y, score).n == 100_000
    assert time.process_time() - started < 1


def test_a_million_cases_are_ranked_and_not_paired() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(1_000_000) % 2
    found = delong(y, np.round(y + rng.normal(size=y.size), 2))
    assert found.upper - found.lower < 0.003
    assert found.lower < 0.7602499 < found.upper


@pytest.mark.parametrize(
    ("y", "score"), [([0, 1], [0.1, float("nan")]), ([0, 1], [0.1]), ([0, 2], [0.1, 0.2]), ([0, 1], [[0.1, 0.2]])]
)
def test_scores_without_an_order_are_refused(y: list[int], score: list[float]) -> None:
    with pytest.raises(UserError):
        delong(np.array(y), score)
