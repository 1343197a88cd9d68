"""How many cases a test needs for its power, planned by the same statistic that decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, log, sqrt
from statistics import NormalDist

from medloop.metrics.area import decisive_variance
from medloop.metrics.estimate import Comparison, normal_quantile, student_quantile
from medloop.metrics.gain import Area, Both, Pairs, compared_areas, compared_pairs, variance_of
from medloop.metrics.proportions import cases_needed_for_lower_bound

NORMAL = NormalDist()
LARGEST_FACTOR = 2.0**20
ROUNDS = 20


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a comparison must show: a gain above the limit, with this error and power."""

    limit: float
    error: float
    power: float
    # Whether both are assumed to be equally good, or the gain to be as it was found.
    equal: bool

    @property
    def quantiles(self) -> tuple[float, float]:
        """How many standard errors the error and the power ask for."""
        return NORMAL.inv_cdf(1 - self.error), NORMAL.inv_cdf(self.power)


def cases_needed_to_compare(name: str, both: Both, found: Comparison, plan: Plan) -> int:
    """From how many cases on of the kind that the metric counts the comparison comes out with this power."""
    if (pairs := compared_pairs(name, both)) is not None:
        return ceil(_pairs_needed(pairs, plan) * found.n / pairs.n)
    if (areas := compared_areas(name, both)) is not None:
        return ceil(found.n * growth_of_areas(*areas, plan))
    above, beyond = plan.quantiles
    room = (0.0 if plan.equal else found.difference) - plan.limit
    return ceil(found.n * ((above + beyond) * (found.difference - found.lower) / above / room) ** 2)


def _pairs_needed(pairs: Pairs, plan: Plan) -> float:
    """Pairs for Tango's score test: its variance at the limit, and the true one, by the share that differs."""
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
    """By what factor the cases must grow for the paired test of two areas on the logit scale."""
    first = first.flawed or first
    if not variance_of(first.parts - second.parts) > 0:
        # The exact bound for the smaller class decides.
        return log(plan.error) / log(1 + plan.limit) / first.patients if -1 < plan.limit < 0 else float("inf")
    a, b = first.auc, second.auc
    if plan.equal:
        a = b = (a + b) / 2
    here, there = min(a, 1 - 1e-6) - max(0.0, plan.limit), min(b, 1 - 1e-6) + min(0.0, plan.limit)
    steps = first.parts / (here * (1 - here)) - second.parts / (there * (1 - there))
    room = log(here / (1 - here)) - log(there / (1 - there))
    beyond, growth = plan.quantiles[1], 1.0
    # More cases make the variance better known too.
    for _ in range(ROUNDS):
        above = student_quantile(1 - 2 * plan.error, first.patients * growth - 1)
        growth = variance_of(steps) * ((above + beyond) / room) ** 2
    return growth


def cases_needed_for_share(share: float, bound: float, limit: float, *, n: int, power: float, level: float) -> int:
    """Cases for Wilson's bound of a share to clear the limit, if n of them give this bound and it is the true share."""
    z = normal_quantile(level)
    # Cases of one patient are worth fewer independent ones: so many as give this bound.
    worth = z * z * bound * (1 - bound) / (share - bound) ** 2 if 0 < bound < 1 else float(n)
    floor, expected = (limit, share) if share > limit else (1 - limit, 1 - share)
    return ceil(cases_needed_for_lower_bound(expected, floor, power, level=level) * n / min(worth, n))


def cases_needed_for_area(auc: float, limit: float, *, counts: tuple[int, int], power: float, level: float) -> int:
    """Cases, in classes of this proportion, for the lower bound of the area to clear the limit, if it is truly this."""
    above, beyond = normal_quantile(level), NORMAL.inv_cdf(power)

    def clears(factor: float) -> bool:
        m, n = (count * factor for count in counts)
        at_limit, true = float(decisive_variance(limit, m, n)), _expected_variance(auc, m, n)
        return auc - limit >= above * sqrt(at_limit) + beyond * sqrt(true)

    return ceil(sum(counts) * least_factor(clears))


def _expected_variance(auc: float, positives: float, negatives: float) -> float:
    """By Hanley and McNeil with the mean of the class sizes (Newcombe, 2006, method 5)."""
    more = (positives + negatives) / 2 - 1
    spread = 1 + more * (1 - auc) / (2 - auc) + more * auc / (1 + auc)
    return auc * (1 - auc) * spread / (positives * negatives)


def least_factor(clears: Callable[[float], bool]) -> float:
    """From which factor on it clears, for what once cleared stays so."""
    high = 1.0
    while not clears(high):
        high *= 2
        if high > LARGEST_FACTOR:
            return float("inf")
    while high > 1 / LARGEST_FACTOR and clears(high / 2):
        high /= 2
    low = high / 2
    while high - low > 1e-3 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if clears(middle) else (middle, high)
    return high
