"""Proportions: Wilson's interval, predictive values, sample sizes and McNemar's test."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt
from statistics import NormalDist
from typing import Any

import numpy as np

from medloop.errors import UserError
from medloop.metrics.curves import npv_at_prevalence, ppv_at_prevalence
from medloop.metrics.intervals.estimate import MIN_EVENNESS, NAN, Interval, normal_quantile, student_quantile, tail
from medloop.metrics.metric import checked_truth
from medloop.metrics.view import FloatArray

# For larger samples the normal formula is exact enough and no search is needed.
MAX_SEARCHED = 1_000_000
PREDICTIVE_DRAWS = 20_000
UNEVEN = "in simulations, such intervals covered the true proportion in 87 to 94% of samples with groups so unequal"


@dataclass(frozen=True, kw_only=True)
class Effective:
    """A proportion with its effective number of independent trials and its number of groups.

    `even_groups` is the number of equally large groups that would leave the proportion as uncertain.
    """

    share: float
    trials: float
    groups: int
    even_groups: float


@dataclass(frozen=True, kw_only=True)
class Discordance:
    """Cases that only one of two classifiers classified correctly, and McNemar's exact two-sided p-value."""

    only_first: int
    only_second: int
    p_value: float
    n: int


def wilson(successes: int, n: int, *, level: float = 0.95) -> Interval:
    """Return Wilson's score interval for a proportion."""
    if not 0 <= successes <= n:
        raise UserError(f"{successes} successes in {n} cases are not possible.", "Pass counts.")
    z = normal_quantile(level)
    if n == 0:
        return Interval(value=NAN, lower=NAN, upper=NAN, n=0, method="Wilson", note="undefined: no cases")
    lower, upper = _score_bounds(successes / n, n, z)
    return Interval(value=successes / n, lower=lower, upper=upper, n=n, method="Wilson")


def wilson_clustered(right: Any, groups: Any, *, level: float = 0.95) -> Interval:
    """Return Wilson's interval for grouped trials, with their effective number of independent trials."""
    trials, counted = np.asarray(right, dtype=bool), effective_trials(right, groups)
    if not trials.size:
        return wilson(0, 0, level=level)
    # With few groups their spread is uncertain, which Student's t allows for; without errors no spread is observed.
    is_spread = 0 < counted.share < 1 and counted.groups < trials.size
    z = student_quantile(level, counted.even_groups - 1) if is_spread else normal_quantile(level)
    lower, upper = _score_bounds(counted.share, counted.trials, z)
    method = f"Wilson, {trials.size} cases of {counted.groups} groups worth {counted.trials:.1f}"
    note = UNEVEN if counted.even_groups < MIN_EVENNESS * counted.groups else ""
    return Interval(value=counted.share, lower=lower, upper=upper, n=trials.size, method=method, note=note)


def effective_trials(right: Any, groups: Any) -> Effective:
    """Return the proportion of successes and the effective number of trials, from the spread between groups."""
    trials = np.asarray(right, dtype=np.float64)
    numbers, n = np.unique(np.asarray(groups), return_inverse=True)[1], trials.size
    if not n:
        return Effective(share=NAN, trials=0.0, groups=0, even_groups=0.0)
    count, share = int(numbers.max()) + 1, float(trials.mean())
    even = n**2 / float((np.bincount(numbers) ** 2).sum())
    if count == n:
        return Effective(share=share, trials=float(n), groups=count, even_groups=even)
    if share in {0.0, 1.0} or count < 2:
        # The correlation within groups is unknown, so each group counts once.
        return Effective(share=share, trials=even, groups=count, even_groups=even)
    apart = np.bincount(numbers, weights=trials - share)
    variance = count / (count - 1) * float((apart**2).sum()) / n**2
    worth = share * (1 - share) / variance if variance > 0 else n
    return Effective(share=share, trials=float(min(max(worth, 1.0), n)), groups=count, even_groups=even)


def predictive_values(
    sensitivity: Effective, specificity: Effective, prevalence: float, *, level: float = 0.95, seed: int = 0
) -> tuple[Interval, Interval]:
    """Return PPV and NPV at a prevalence, from the sensitivity and specificity of the test cases."""
    shares = (sensitivity.share, specificity.share, prevalence)
    is_known = sensitivity.groups and specificity.groups
    values = (ppv_at_prevalence(*shares), npv_at_prevalence(*shares)) if is_known else (NAN, NAN)
    rng = np.random.default_rng(seed)
    found, spared = _jeffreys_draws(sensitivity, rng), _jeffreys_draws(specificity, rng)
    odds = prevalence / (1 - prevalence)
    drawn_values = 1 / (1 + (1 - spared) / (found * odds)), 1 / (1 + (1 - found) * odds / spared)
    n = round(sensitivity.trials + specificity.trials)
    ppv, npv = (
        _interval_of_draws(value, np.quantile(drawn, [tail(level), 1 - tail(level)]), n=n)
        for value, drawn in zip(values, drawn_values, strict=True)
    )
    return ppv, npv


def _jeffreys_draws(share: Effective, rng: np.random.Generator) -> FloatArray:
    successes = (share.share if share.groups else 0.0) * share.trials
    drawn = rng.beta(successes + 0.5, share.trials - successes + 0.5, PREDICTIVE_DRAWS)
    return np.clip(drawn, 1e-12, 1 - 1e-12)


def _interval_of_draws(value: float, bounds: FloatArray, *, n: int) -> Interval:
    method = "Jeffreys draws of sensitivity and specificity"
    if np.isnan(value):
        return Interval(value=NAN, lower=NAN, upper=NAN, n=n, method=method, note="undefined: a class is absent")
    lower, upper = min(float(bounds[0]), value), max(float(bounds[1]), value)
    return Interval(value=value, lower=lower, upper=upper, n=n, method=method)


def _score_bounds(share: float, n: float, z: float) -> tuple[float, float]:
    shrink = z * z / n
    middle = (share + shrink / 2) / (1 + shrink)
    reach = z * sqrt(share * (1 - share) / n + shrink / (4 * n)) / (1 + shrink)
    # At 0 and 1 the formula returns the share itself, up to rounding.
    return (0.0 if share == 0 else max(0.0, middle - reach)), (1.0 if share == 1 else min(1.0, middle + reach))


def cases_needed_for_lower_bound(p_expected: float, p_floor: float, power: float = 0.8, *, level: float = 0.95) -> int:
    """Return the sample size from which Wilson's lower bound reaches the floor with this power."""
    if not (0 < p_floor < p_expected <= 1 and 0 < power < 1):
        raise UserError(
            f"No sample size exists for floor {p_floor}, expected proportion {p_expected} and power {power}.",
            "Choose 0 < floor < expected proportion <= 1 and 0 < power < 1.",
        )
    z = normal_quantile(level)
    spread_floor, spread = sqrt(p_floor * (1 - p_floor)), sqrt(p_expected * (1 - p_expected))
    rough = ((z * spread_floor + NormalDist().inv_cdf(power) * spread) / (p_expected - p_floor)) ** 2
    if rough > MAX_SEARCHED:
        return ceil(rough)
    n = np.arange(1, 4 * ceil(rough) + 200)
    return int(n[_power(n, p_expected, p_floor, z=z) < power].max(initial=0)) + 1


def _power(n: Any, p_expected: float, p_floor: float, *, z: float) -> Any:
    from scipy.special import bdtrc

    # Wilson's lower bound equals the floor exactly where the score test against the floor equals z.
    needed = np.ceil(n * p_floor + z * np.sqrt(n * p_floor * (1 - p_floor)) - 1e-9)
    return np.where(needed <= n, bdtrc(np.minimum(needed, n) - 1, n, p_expected), 0.0)


def mcnemar_exact(y_true: Any, first: Any, second: Any) -> Discordance:
    """Test whether two classifiers err equally often, from their decisions on the same cases."""
    from scipy.special import bdtr

    truth = np.asarray(y_true)
    any_class = int(np.iinfo(np.int32).max)
    y, a, b = (checked_truth(labels, n=truth.size, classes=any_class) for labels in (truth, first, second))
    only_first, only_second = int(((a == y) & (b != y)).sum()), int(((b == y) & (a != y)).sum())
    discordant = only_first + only_second
    p_value = min(1.0, 2 * float(bdtr(min(only_first, only_second), discordant, 0.5))) if discordant else 1.0
    return Discordance(only_first=only_first, only_second=only_second, p_value=p_value, n=truth.size)
