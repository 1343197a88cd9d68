"""The gain of one classifier over another: above 0 is better for every metric; its interval holds with few cases."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar

from medloop.errors import UnknownName
from medloop.metrics import METRICS
from medloop.metrics.intervals.bootstrap import Resampling
from medloop.metrics.intervals.delong import delong_paired
from medloop.metrics.intervals.gain import (
    Pairs,
    compared_areas,
    effective_size,
    gain,
    pair_scores,
    paired_score_interval,
    variance_of,
)
from medloop.metrics.view import one_hot

Z = 1.959963984540054


def shares(seed: int, y: Any, apart: float) -> Any:
    score = np.random.default_rng(seed).normal(size=y.size) + apart * (y - 0.5)
    p = 1 / (1 + np.exp(-score))
    return np.column_stack([1 - p, p])


def decided(shares: Any) -> Any:
    return one_hot(shares.argmax(axis=1), 2)


Y = np.tile([0, 1], 300)
GOOD, POOR = shares(1, Y, 3.0), shares(2, Y, 0.5)


def measured(name: str, p: Any) -> Any:
    return decided(p) if METRICS[name].uses == "decision" else p


@pytest.mark.parametrize("name", sorted(set(METRICS) - {"calibration_slope", "calibration_intercept", "ece"}))
def test_a_better_model_has_a_gain_whichever_way_the_metric_runs(name: str) -> None:
    found = gain(name, Y, measured(name, GOOD), measured(name, POOR), Resampling(draws=200))
    assert 0 < found.lower < found.difference < found.upper
    turned = gain(name, Y, measured(name, POOR), measured(name, GOOD), Resampling(draws=200))
    assert turned.difference == pytest.approx(-found.difference)
    assert turned.upper < 0


def test_a_slope_nearer_to_one_is_a_gain_from_both_sides() -> None:
    calm = GOOD**0.5 / (GOOD**0.5).sum(axis=1, keepdims=True)
    assert gain("calibration_slope", Y, GOOD, calm, Resampling(draws=200)).difference > 0
    assert gain("calibration_slope", Y, calm, GOOD, Resampling(draws=200)).difference < 0


@pytest.mark.parametrize("name", ["accuracy", "recall", "specificity"])
def test_the_gain_of_a_share_is_the_difference_of_the_shares(name: str) -> None:
    a, b = decided(GOOD), decided(POOR)
    assert gain(name, Y, a, b).difference == pytest.approx(METRICS[name](Y, a) - METRICS[name](Y, b))


def slow_score(n: int, b: int, c: int, delta: float) -> float:
    """The score statistic with the likeliest other share found by search and not by formula."""
    if abs(delta) == 1:
        return np.inf if delta < 0 else -np.inf

    def minus_likelihood(q: float) -> float:
        p = q + delta
        parts = ((b, p), (c, q), (n - b - c, 1 - p - q))
        return -sum(count * np.log(max(share, 1e-300)) for count, share in parts if count)

    low, high = max(0.0, -delta), (1 - delta) / 2
    q = minimize_scalar(minus_likelihood, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x
    return float((b - c - n * delta) / np.sqrt(n * (2 * q + delta - delta**2)))


@pytest.mark.parametrize(("n", "b", "c"), [(44, 0, 1), (100, 12, 9), (30, 14, 1), (200, 3, 0), (57, 5, 5), (43, 2, 6)])
def test_tangos_interval_is_where_a_slow_search_puts_it(n: int, b: int, c: int) -> None:
    lower, upper = paired_score_interval(Pairs(n=n, only_first=b, only_second=c))
    difference = (b - c) / n
    slow_lower = brentq(lambda delta: slow_score(n, b, c, delta) - Z, -0.999, difference - 1e-9)
    slow_upper = brentq(lambda delta: slow_score(n, b, c, delta) + Z, difference + 1e-9, 0.999)
    assert (lower, upper) == (pytest.approx(slow_lower, abs=1e-5), pytest.approx(slow_upper, abs=1e-5))


def test_tangos_published_example() -> None:
    lower, upper = paired_score_interval(Pairs(n=44, only_first=0, only_second=1))
    assert (round(lower, 4), round(upper, 4)) == (-0.1181, 0.0594)


def test_identical_decisions_on_few_cases_leave_room_for_a_difference() -> None:
    lower, upper = paired_score_interval(Pairs(n=43, only_first=0, only_second=0))
    assert lower == pytest.approx(-upper)
    assert 0.05 < upper < 0.1


@pytest.mark.parametrize("name", ["f1", "balanced_accuracy", "mcc", "precision"])
def test_equal_decisions_prove_nothing_on_few_cases(name: str) -> None:
    y = np.tile([0, 1], 30)
    found = gain(name, y, one_hot(y, 2), one_hot(y, 2), Resampling(draws=200))
    assert found.difference == 0
    assert found.lower < -0.1
    assert "hardly any case is decided differently" in found.note


def test_equal_areas_of_clustered_cases_prove_nothing_either() -> None:
    y, groups = np.repeat([0, 1], 40), np.repeat(np.arange(20), 4)
    perfect = one_hot(y, 2)
    assert gain("roc_auc", y, perfect, perfect, Resampling(groups=groups, draws=200)).lower < -0.2


def test_cases_of_one_patient_that_differ_together_count_once() -> None:
    patients = np.repeat(np.arange(50), 4)
    together = np.repeat(np.random.default_rng(0).choice([-1.0, 0.0, 1.0], 50), 4)
    assert effective_size(together, patients) == pytest.approx(50, rel=0.05)
    apart = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], 200)
    assert effective_size(apart, patients) > 120
    assert effective_size(np.zeros(200), patients) == 50
    assert effective_size(apart, np.arange(200)) == 200


def test_copies_of_cases_add_no_information() -> None:
    y = np.tile([0, 1], 100)
    a, b = decided(shares(3, y, 2.0)), decided(shares(4, y, 1.0))
    once = gain("recall", y, a, b)
    copies = gain(
        "recall", np.tile(y, 5), np.tile(a, (5, 1)), np.tile(b, (5, 1)), Resampling(groups=np.tile(np.arange(200), 5))
    )
    assert copies.difference == pytest.approx(once.difference)
    assert (copies.lower, copies.upper) == (pytest.approx(once.lower, abs=0.01), pytest.approx(once.upper, abs=0.01))


def test_areas_of_separate_patients_have_delongs_p_value() -> None:
    fast, known = gain("roc_auc", Y, GOOD, POOR), delong_paired(Y, GOOD[:, 1], POOR[:, 1])
    assert fast.p_value == pytest.approx(known.p_value, rel=1e-9)
    assert (fast.difference, fast.lower) == (pytest.approx(known.difference), pytest.approx(known.lower, abs=0.01))


def test_an_observed_area_of_one_is_not_certain() -> None:
    y = np.tile([0, 1], 20)
    found = gain("roc_auc", y, one_hot(y, 2), shares(5, y, 2.0))
    assert found.difference > 0
    assert found.lower <= 0


@pytest.mark.parametrize(("positives", "negatives"), [(10, 60), (17, 97), (43, 71)])
def test_a_ranking_without_a_fault_has_no_worse_bound_than_one_with_a_fault(positives: int, negatives: int) -> None:
    y = np.repeat([1, 0], [positives, negatives])
    score = np.r_[np.linspace(0.6, 0.95, positives), np.linspace(0.05, 0.45, negatives)]
    champion, one_wrong = score.copy(), score.copy()
    champion[:2] = 0.3, 0.4
    one_wrong[0] = 0.449
    least = [
        gain(
            "roc_auc",
            y,
            np.column_stack([1 - p, p]),
            np.column_stack([1 - champion, champion]),
            Resampling(level=0.975),
        ).lower
        for p in (one_wrong, score)
    ]
    assert least[0] <= least[1] + 1e-6
    assert least[1] > -0.03


def test_few_patients_of_a_class_widen_the_interval_as_students_t_does() -> None:
    def reach(positives: int, *, negatives: int = 100) -> float:
        """How far the lower end lies from the difference, by the standard errors between them."""
        y, rng = np.repeat([1, 0], [positives, negatives]), np.random.default_rng(7)
        score = rng.normal(size=y.size) + 2 * y
        other = score + 0.3 * rng.normal(size=y.size)
        one, two = (np.column_stack([1 - p, p]) for p in (1 / (1 + np.exp(-score)), 1 / (1 + np.exp(-other))))
        areas = compared_areas("roc_auc", pair_scores(y, one, two))
        assert areas is not None
        low = gain("roc_auc", y, one, two).lower
        # On the logit scale, with the area that the difference lowers moved.
        here, there = areas[0].auc, areas[1].auc + low
        parts = areas[0].parts / (here * (1 - here)) - areas[1].parts / (there * (1 - there))
        return float((np.log(here / (1 - here)) - np.log(there / (1 - there))) / np.sqrt(variance_of(parts)))

    assert reach(5) == pytest.approx(2.776, abs=0.001)
    assert reach(60) == pytest.approx(2.001, abs=0.001)


def test_an_absent_class_has_no_gain() -> None:
    y = np.zeros(30, dtype=np.int64)
    found = gain("recall", y, decided(shares(1, y, 1.0)), decided(shares(2, y, 1.0)))
    assert np.isnan(found.difference)
    assert found.n == 0


@pytest.mark.parametrize(
    "other", [lambda score: 3 * score - 1, lambda score: np.tanh(score / 3)], ids=["linear", "curved"]
)
def test_a_monotone_transformation_is_neither_better_nor_worse(other: Any) -> None:
    score = np.random.default_rng(0).normal(size=Y.size) + Y
    one, renamed = (np.column_stack([1 - p, p]) for p in (1 / (1 + np.exp(-s)) for s in (score, other(score))))
    found = gain("roc_auc", Y, one, renamed)
    assert (found.difference, found.lower, found.upper) == (0.0, 0.0, 0.0)
    assert found.note == "both rank the cases alike"


def test_a_bound_beyond_the_draws_is_extrapolated_and_keeps_the_order_of_levels() -> None:
    a, b = decided(GOOD), decided(POOR)
    bounds = [
        gain("f1", Y, a, b, Resampling(draws=2000, level=level)).lower for level in (0.9, 0.95, 0.98, 0.999, 0.99999)
    ]
    assert bounds == sorted(bounds, reverse=True)
    assert len(set(bounds)) == len(bounds)


def test_an_unknown_metric_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'recall'"):
        gain("recal", Y, GOOD, POOR)
