"""A figure with its uncertainty: the one form in which every interval and comparison is given."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isclose
from statistics import NormalDist

from medloop.errors import UserError

NAN = float("nan")
# Groups of different size count as fewer of one size; below this share of them intervals come out too narrow.
EVEN = 2 / 3


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A value, the interval around it, the cases (or folds) behind it and how it was made."""

    value: float
    lower: float
    upper: float
    n: int
    method: str
    note: str = ""
    std: float | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """First minus second on the same cases, with its interval and two-sided p-value."""

    difference: float
    lower: float
    upper: float
    p_value: float
    n: int
    method: str
    note: str = ""


def tail(level: float) -> float:
    """The share that an interval of this level leaves out on each side."""
    if not 0 < level < 1:
        raise UserError("a level must be between 0 and 1", found=str(level), hint="0.95 is usual")
    return (1 - level) / 2


def normal_quantile(level: float) -> float:
    """How many standard errors an interval of this level reaches to each side."""
    return NormalDist().inv_cdf(1 - tail(level))


def student_quantile(level: float, degrees: float) -> float:
    """The same where the standard error is itself estimated, with so many degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(max(degrees, 1.0), 1 - tail(level)))


def perfect_bound(k: int, *, level: float) -> float:
    """Least success rate under which k successes out of k still happen with the chance of one tail."""
    return float(tail(level) ** (1 / k)) if k else 0.0


def same(first: float, second: float) -> bool:
    """Whether two values are equal but for the order in which they were added up."""
    return isclose(first, second, rel_tol=1e-9, abs_tol=1e-12)


def joined(*notes: str) -> str:
    """The notes that say something, in one line."""
    return "; ".join(note for note in notes if note)


def within(interval: Interval, bounds: tuple[float, float]) -> Interval:
    """The interval cut to the values that the figure can take."""
    low, high = bounds
    return replace(interval, lower=max(interval.lower, low), upper=min(interval.upper, high))
