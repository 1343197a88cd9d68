"""Intervals hold the truth as often as they say, on data sets drawn from a known truth."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist

import numpy as np
import pytest
from scipy.stats import binom

from medloop.metrics import METRICS
from medloop.metrics.bootstrap import bootstrap
from medloop.metrics.intervals import Interval, delong, delong_paired, interval_for, paired_bootstrap, wilson
from medloop.metrics.view import FloatArray, IntArray

DATA_SETS = 400


def within_band(covered: int, *, level: float = 0.95, slack: float = 0.01) -> bool:
    """Whether so many data sets out of all are what chance allows, given how exact the method claims to be."""
    low = binom.ppf(0.001, DATA_SETS, level - slack)
    high = binom.ppf(0.999, DATA_SETS, level + slack)
    return bool(low <= covered <= high)


def holds(interval: Interval, truth: float) -> bool:
    return interval.lower <= truth <= interval.upper


@pytest.mark.parametrize(("positives", "negatives", "shift"), [(40, 160, 1.5), (100, 100, 0.0), (25, 60, 2.2)])
def test_delong_covers_the_area(positives: int, negatives: int, shift: float) -> None:
    rng = np.random.default_rng(11)
    y = np.repeat([1, 0], [positives, negatives])
    truth = NormalDist().cdf(shift / sqrt(2))
    covered = sum(holds(delong(y, shift * y + rng.normal(size=y.size)), truth) for _ in range(DATA_SETS))
    assert within_band(covered), covered


@pytest.mark.parametrize(("n", "sensitivity"), [(60, 0.9), (200, 0.8)])
def test_wilson_covers_the_sensitivity(n: int, sensitivity: float) -> None:
    rng = np.random.default_rng(12)
    covered = sum(holds(wilson(int(found), n), sensitivity) for found in rng.binomial(n, sensitivity, DATA_SETS))
    assert within_band(covered), covered


def calibrated(rng: np.random.Generator, n: int) -> tuple[IntArray, FloatArray]:
    """Uniform probabilities that are true: the Brier score is the mean of p (1 - p), a sixth."""
    share = rng.random(n)
    return (rng.random(n) < share).astype(np.int64), np.column_stack([1 - share, share])


def test_the_bootstrap_covers_the_brier_score() -> None:
    rng = np.random.default_rng(13)
    covered = sum(
        holds(bootstrap(METRICS["brier"], *calibrated(rng, 150), draws=400, seed=i), 1 / 6) for i in range(DATA_SETS)
    )
    assert within_band(covered, slack=0.015), covered


def test_the_clustered_bootstrap_covers_where_the_naive_interval_does_not() -> None:
    rng = np.random.default_rng(14)
    patients = np.repeat(np.arange(60), 5)
    truth, covered, naive = 0.8, 0, 0
    for i in range(DATA_SETS):
        chance = rng.beta(1.6, 0.4, 60)
        right = rng.random(300) < chance[patients]
        y = np.ones(300, dtype=int)
        p = np.column_stack([~right, right]).astype(float)
        covered += holds(interval_for("accuracy", y, p, groups=patients, draws=400, seed=i), truth)
        naive += holds(interval_for("accuracy", y, p), truth)
    assert within_band(covered, slack=0.02), covered
    assert naive < 0.85 * DATA_SETS


def test_two_equal_scores_are_called_different_one_time_in_twenty() -> None:
    rng = np.random.default_rng(15)
    y = np.repeat([1, 0], [50, 120])
    by_delong, by_draws = 0, 0
    for i in range(DATA_SETS):
        latent = y + rng.normal(size=y.size)
        first, second = (1 / (1 + np.exp(-(latent + 0.7 * rng.normal(size=y.size)))) for _ in range(2))
        by_delong += delong_paired(y, first, second).p_value >= 0.05
        two = [np.column_stack([1 - share, share]) for share in (first, second)]
        by_draws += paired_bootstrap(METRICS["roc_auc"], y, two[0], two[1], draws=300, seed=i).p_value >= 0.05
    assert within_band(by_delong), by_delong
    assert within_band(by_draws, slack=0.02), by_draws


def test_a_perfect_area_is_bounded_at_least_as_often_as_stated() -> None:
    rng = np.random.default_rng(16)
    y = np.repeat([1, 0], [6, 9])
    truth = NormalDist().cdf(2.5 / sqrt(2))
    perfect = [delong(y, 2.5 * y + rng.normal(size=y.size)) for _ in range(DATA_SETS)]
    assert sum(found.value == 1 for found in perfect) > 50
    assert all(holds(found, truth) for found in perfect if found.value == 1)
