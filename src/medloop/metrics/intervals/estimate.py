"""The form of every interval and comparison, and the arithmetic that their methods share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isclose
from statistics import NormalDist

from medloop.errors import UserError

NAN = float("nan")
# Groups of unequal size are worth fewer groups of equal size; below this share of them intervals are too narrow.
MIN_EVENNESS = 2 / 3


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A value with its interval, the number of cases (or folds) and the method."""

    value: float
    lower: float
    upper: float
    n: int
    method: str
    note: str = ""
    std: float | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The difference first minus second on the same cases, with its interval and two-sided p-value."""

    difference: float
    lower: float
    upper: float
    p_value: float
    n: int
    method: str
    note: str = ""


def tail(level: float) -> float:
    """Return the probability that an interval of this level leaves out on each side."""
    if not 0 < level < 1:
        raise UserError(f"The confidence level is {level}, not between 0 and 1.", "0.95 is usual.")
    return (1 - level) / 2


def normal_quantile(level: float) -> float:
    """Return the half-width of an interval of this level in standard errors, by the normal distribution."""
    return NormalDist().inv_cdf(1 - tail(level))


def student_quantile(level: float, degrees: float) -> float:
    """Return the half-width in standard errors that are estimated with these degrees of freedom, by Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(max(degrees, 1.0), 1 - tail(level)))


def perfect_bound(k: int, *, level: float) -> float:
    """Return the exact lower bound of the success rate after k successes in k trials."""
    return float(tail(level) ** (1 / k)) if k else 0.0


def is_close(first: float, second: float) -> bool:
    """Return whether two values are equal up to rounding."""
    return isclose(first, second, rel_tol=1e-9, abs_tol=1e-12)


def join_notes(*notes: str) -> str:
    """Return the notes that are not empty, in one line."""
    return "; ".join(note for note in notes if note)


def within(interval: Interval, bounds: tuple[float, float]) -> Interval:
    """Return the interval, clipped to the possible values."""
    low, high = bounds
    return replace(interval, lower=max(interval.lower, low), upper=min(interval.upper, high))
