"""Sample sizes for a given power, planned with the same test that decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, log, sqrt
from statistics import NormalDist

from medloop.metrics.intervals.area import decisive_variance
from medloop.metrics.intervals.estimate import Comparison, normal_quantile, student_quantile
from medloop.metrics.intervals.gain import Area, PairedScores, Pairs, compared_areas, compared_pairs, variance_of
from medloop.metrics.intervals.proportions import cases_needed_for_lower_bound

NORMAL = NormalDist()
MAX_FACTOR = 2.0**20
ROUNDS = 20


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The gain that a comparison must exceed, with its one-sided error and power."""

    limit: float
    error: float
    power: float
    # Whether the plan assumes that both are equally good, or that the observed gain is the true one.
    equal: bool

    @property
    def quantiles(self) -> tuple[float, float]:
        """The normal quantiles of the error and of the power."""
        return NORMAL.inv_cdf(1 - self.error), NORMAL.inv_cdf(self.power)


def cases_needed_to_compare(name: str, both: PairedScores, found: Comparison, plan: Plan) -> int:
    """Return the number of cases, of the kind that the metric counts, with which the comparison has this power."""
    if (pairs := compared_pairs(name, both)) is not None:
        return ceil(_pairs_needed(pairs, plan) * found.n / pairs.n)
    if (areas := compared_areas(name, both)) is not None:
        return ceil(found.n * growth_of_areas(*areas, plan))
    above, beyond = plan.quantiles
    room = (0.0 if plan.equal else found.difference) - plan.limit
    return ceil(found.n * ((above + beyond) * (found.difference - found.lower) / above / room) ** 2)


def _pairs_needed(pairs: Pairs, plan: Plan) -> float:
    """Return the pairs for Tango's score test, from its variance at the limit and its true one."""
    apart = max(pairs.only_first + pairs.only_second, 0.5) / pairs.n
    expected = 0.0 if plan.equal else pairs.difference
    first, second = (apart + expected) / 2, (apart - expected) / 2
    delta = plan.limit
    if delta < 0:
        first, second, delta = second, first, -delta
    half = (2 - first + second) * delta - first - second
    rest = (sqrt(max(0.0, half * half + 8 * second * delta * (1 - delta))) - half) / 4
    at_limit, true = 2 * rest + delta * (1 - delta), max(apart - expected**2, 0.0)
    above, beyond = plan.quantiles
    return ((above * sqrt(max(at_limit, 0.0)) + beyond * sqrt(true)) / (expected - plan.limit)) ** 2


def growth_of_areas(first: Area, second: Area, plan: Plan) -> float:
    """Return the factor by which the sample must grow for the paired test of two areas on the logit scale."""
    first = first.with_error or first
    if not variance_of(first.parts - second.parts) > 0:
        # Without variance the exact bound for the rarer class decides.
        return log(plan.error) / log(1 + plan.limit) / first.patients if -1 < plan.limit < 0 else float("inf")
    a, b = first.auc, second.auc
    if plan.equal:
        a = b = (a + b) / 2
    here, there = min(a, 1 - 1e-6) - max(0.0, plan.limit), min(b, 1 - 1e-6) + min(0.0, plan.limit)
    steps = first.parts / (here * (1 - here)) - second.parts / (there * (1 - there))
    room = log(here / (1 - here)) - log(there / (1 - there))
    beyond, growth = plan.quantiles[1], 1.0
    # More cases also make the estimate of the variance more certain.
    for _ in range(ROUNDS):
        above = student_quantile(1 - 2 * plan.error, first.patients * growth - 1)
        growth = variance_of(steps) * ((above + beyond) / room) ** 2
    return growth


def cases_needed_for_share(share: float, bound: float, limit: float, *, n: int, power: float, level: float) -> int:
    """Return the cases for Wilson's bound to clear the limit, given the bound that n cases of this share have."""
    z = normal_quantile(level)
    # The effective number of cases follows from the bound, since cases of one patient count for less.
    worth = z * z * bound * (1 - bound) / (share - bound) ** 2 if 0 < bound < 1 else float(n)
    floor, expected = (limit, share) if share > limit else (1 - limit, 1 - share)
    return ceil(cases_needed_for_lower_bound(expected, floor, power, level=level) * n / min(worth, n))


def cases_needed_for_area(auc: float, limit: float, *, counts: tuple[int, int], power: float, level: float) -> int:
    """Return the cases, in these proportions, for the lower bound of this area to clear the limit."""
    above, beyond = normal_quantile(level), NORMAL.inv_cdf(power)

    def clears(factor: float) -> bool:
        m, n = (count * factor for count in counts)
        at_limit, true = float(decisive_variance(limit, m, n)), _expected_variance(auc, m, n)
        return auc - limit >= above * sqrt(at_limit) + beyond * sqrt(true)

    return ceil(sum(counts) * min_factor(clears))


def _expected_variance(auc: float, positives: float, negatives: float) -> float:
    """Return Hanley and McNeil's variance with the mean of the class sizes (Newcombe, 2006, method 5)."""
    more = (positives + negatives) / 2 - 1
    spread = 1 + more * (1 - auc) / (2 - auc) + more * auc / (1 + auc)
    return auc * (1 - auc) * spread / (positives * negatives)


def min_factor(clears: Callable[[float], bool]) -> float:
    """Return the smallest factor that clears, assuming that every larger one clears too."""
    high = 1.0
    while not clears(high):
        high *= 2
        if high > MAX_FACTOR:
            return float("inf")
    while high > 1 / MAX_FACTOR and clears(high / 2):
        high /= 2
    low = high / 2
    while high - low > 1e-3 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if clears(middle) else (middle, high)
    return high
