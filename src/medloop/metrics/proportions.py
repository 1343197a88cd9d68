"""Shares of cases: their interval, how many cases one needs, and two classifiers on the same cases."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt
from statistics import NormalDist
from typing import Any

import numpy as np

from medloop.errors import UserError
from medloop.metrics.estimate import NAN, Interval, normal_quantile
from medloop.metrics.metric import checked_truth

# Beyond this many cases one case more or less changes nothing, and the normal formula is exact enough.
LARGEST_SEARCHED = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Discordance:
    """Cases that only one of two classifiers decided rightly, and McNemar's exact two-sided p-value."""

    only_first: int
    only_second: int
    p_value: float
    n: int


def wilson(successes: int, n: int, *, level: float = 0.95) -> Interval:
    """Wilson's score interval for a proportion."""
    if not 0 <= successes <= n:
        raise UserError(
            "successes must be from 0 to the number of cases", found=f"{successes} of {n}", hint="pass counts"
        )
    z = normal_quantile(level)
    if n == 0:
        return Interval(value=NAN, lower=NAN, upper=NAN, n=0, method="Wilson", note="undefined: no cases")
    share, shrink = successes / n, z * z / n
    middle = (share + shrink / 2) / (1 + shrink)
    reach = z * sqrt(share * (1 - share) / n + shrink / (4 * n)) / (1 + shrink)
    # At 0 and n the formula gives the share itself but for rounding.
    lower = 0.0 if successes == 0 else max(0.0, middle - reach)
    upper = 1.0 if successes == n else min(1.0, middle + reach)
    return Interval(value=share, lower=lower, upper=upper, n=n, method="Wilson")


def cases_needed_for_lower_bound(p_expected: float, p_floor: float, power: float = 0.8, *, level: float = 0.95) -> int:
    """Least n from which on Wilson's lower bound reaches the floor with this power, if the share is as expected."""
    if not (0 < p_floor < p_expected <= 1 and 0 < power < 1):
        raise UserError(
            "0 < floor < expected <= 1 and 0 < power < 1 must hold",
            found=f"floor {p_floor}, expected {p_expected}, power {power}",
            hint="a share that is expected at its floor never proves that it is above",
        )
    z = normal_quantile(level)
    spread_floor, spread = sqrt(p_floor * (1 - p_floor)), sqrt(p_expected * (1 - p_expected))
    rough = ((z * spread_floor + NormalDist().inv_cdf(power) * spread) / (p_expected - p_floor)) ** 2
    if rough > LARGEST_SEARCHED:
        return ceil(rough)
    n = np.arange(1, 4 * ceil(rough) + 200)
    return int(n[_chance_to_reach(n, p_expected, p_floor, z=z) < power].max(initial=0)) + 1


def _chance_to_reach(n: Any, p_expected: float, p_floor: float, *, z: float) -> Any:
    from scipy.special import bdtrc

    # Wilson's lower bound is at the floor exactly where the score test against the floor gives z.
    fewest = np.ceil(n * p_floor + z * np.sqrt(n * p_floor * (1 - p_floor)) - 1e-9)
    return np.where(fewest <= n, bdtrc(np.minimum(fewest, n) - 1, n, p_expected), 0.0)


def mcnemar_exact(y_true: Any, first: Any, second: Any) -> Discordance:
    """Whether two classifiers err equally often, from the decisions of both on the same cases."""
    from scipy.special import bdtr

    truth = np.asarray(y_true)
    any_class = int(np.iinfo(np.int32).max)
    y, a, b = (checked_truth(labels, n=truth.size, classes=any_class) for labels in (truth, first, second))
    only_first, only_second = int(((a == y) & (b != y)).sum()), int(((b == y) & (a != y)).sum())
    discordant = only_first + only_second
    p_value = min(1.0, 2 * float(bdtr(min(only_first, only_second), discordant, 0.5))) if discordant else 1.0
    return Discordance(only_first=only_first, only_second=only_second, p_value=p_value, n=truth.size)
