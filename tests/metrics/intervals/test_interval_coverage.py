"""Intervals hold the truth as often as they say, on data sets drawn from a known truth."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, sqrt
from statistics import NormalDist

import numpy as np
import pytest
from scipy.stats import binom

from benchmarks import auc
from medloop.metrics import METRICS
from medloop.metrics.intervals.bootstrap import Resampling, bootstrap, paired_bootstrap
from medloop.metrics.intervals.by_metric import interval_for, intervals_for
from medloop.metrics.intervals.delong import delong, delong_paired
from medloop.metrics.intervals.estimate import Interval
from medloop.metrics.intervals.proportions import wilson
from medloop.metrics.view import FloatArray, IntArray, one_hot

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


@pytest.mark.parametrize("positives", [4, 10, 20, 40])
@pytest.mark.parametrize("shape", auc.SHAPES)
def test_the_area_of_few_positives_is_covered_and_hardly_ever_promised_too_high(positives: int, shape: str) -> None:
    for area in (0.7, 0.9, 0.98):
        world = auc.World(area=area, positives=positives, negatives=100, shape=shape)
        held, too_high = auc.coverage(world, trials=2000, seed=1)
        assert held >= 0.91, (area, held)
        assert too_high <= 0.035, (area, too_high)


@pytest.mark.parametrize(
    "world", auc.CLUSTERED, ids=lambda world: f"{world.positives} of {world.slices} at {world.area}"
)
def test_the_area_of_patients_with_several_cases_is_covered(world: auc.World) -> None:
    assert auc.coverage(world, trials=500, seed=2)[0] >= 0.93


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
        holds(bootstrap(METRICS["brier"], *calibrated(rng, 150), Resampling(draws=400, seed=i)), 1 / 6)
        for i in range(DATA_SETS)
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
        covered += holds(interval_for("accuracy", y, p, Resampling(groups=patients, draws=400, seed=i)), truth)
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
        by_draws += (
            paired_bootstrap(METRICS["roc_auc"], y, two[0], two[1], Resampling(draws=300, seed=i)).p_value >= 0.05
        )
    assert within_band(by_delong), by_delong
    assert within_band(by_draws, slack=0.02), by_draws


def test_a_perfect_area_is_bounded_at_least_as_often_as_stated() -> None:
    rng = np.random.default_rng(16)
    y = np.repeat([1, 0], [6, 9])
    truth = NormalDist().cdf(2.5 / sqrt(2))
    perfect = [delong(y, 2.5 * y + rng.normal(size=y.size)) for _ in range(DATA_SETS)]
    assert sum(found.value == 1 for found in perfect) > 50
    assert all(holds(found, truth) for found in perfect if found.value == 1)


@dataclass(frozen=True)
class World:
    """Calibrated risks of which a share is positive; the truths are integrals over all that could be drawn."""

    n: int
    prevalence: float
    shift: float

    def risk(self, latent: FloatArray) -> FloatArray:
        odds = log(self.prevalence / (1 - self.prevalence)) + self.shift * latent - self.shift**2 / 2
        return 1 / (1 + np.exp(-odds))

    def truths(self) -> dict[str, float]:
        z = np.linspace(-9, 9, 20_001)
        density = np.exp(-(z**2) / 2) / np.exp(-(z**2) / 2).sum()
        of_positive, of_negative = self.risk(z + self.shift), self.risk(z)
        return {
            "roc_auc": NormalDist().cdf(self.shift / sqrt(2)),
            "recall": float(density @ (of_positive >= self.prevalence)),
            "brier": float(
                self.prevalence * density @ (1 - of_positive) ** 2 + (1 - self.prevalence) * density @ of_negative**2
            ),
        }

    def draw(self, rng: np.random.Generator) -> tuple[IntArray, dict[str, FloatArray]]:
        """Cases as they come, so that the number of positives is a matter of chance too."""
        y = (rng.random(self.n) < self.prevalence).astype(np.int64)
        share = self.risk(self.shift * y + rng.normal(size=self.n))
        p = np.column_stack([1 - share, share])
        return y, {"roc_auc": p, "recall": one_hot((share >= self.prevalence).astype(np.int64), 2), "brier": p}


@pytest.mark.soak
@pytest.mark.parametrize("shift", [1.5, 2.5], ids=["auc 0.86", "auc 0.96"])
@pytest.mark.parametrize(("n", "prevalence"), [(200, 0.5), (2000, 0.2)], ids=["200 balanced", "2000 at 20%"])
def test_intervals_cover_95_percent_of_two_thousand_data_sets(n: int, prevalence: float, shift: float) -> None:
    world, rng = World(n, prevalence, shift), np.random.default_rng(17)
    truths, covered = world.truths(), dict.fromkeys(("roc_auc", "recall", "brier"), 0)
    for seed in range(2000):
        y, shown = world.draw(rng)
        for name, interval in intervals_for(shown, y, Resampling(draws=1000, seed=seed)).items():
            covered[name] += holds(interval, truths[name])
    shares = {name: count / 2000 for name, count in covered.items()}
    # The area's interval holds for the least favourable scores of its size, and is wide for these.
    assert shares.pop("roc_auc") >= 0.935
    assert all(abs(share - 0.95) <= 0.015 for share in shares.values()), shares
