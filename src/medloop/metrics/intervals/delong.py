"""DeLong's variance of the area under the ROC curve, from sorted scores in O(n log n) (after Sun and Xu, 2014)."""

from __future__ import annotations

from dataclasses import dataclass
from math import erfc, exp, log, sqrt
from typing import Any

import numpy as np

from medloop.metrics.intervals.estimate import NAN, Comparison, Interval, normal_quantile, perfect_bound
from medloop.metrics.metric import BoolArray, checked_binary
from medloop.metrics.view import FloatArray


@dataclass(frozen=True)
class Placements:
    """The area, and for each case the share of the other class that it is ranked correctly against."""

    auc: float
    positives: FloatArray
    negatives: FloatArray

    @property
    def pairs(self) -> int:
        """The number of disjoint pairs of a positive and a negative case."""
        return min(self.positives.size, self.negatives.size)

    @property
    def variance(self) -> float:
        """DeLong's variance of the area; NaN where a class has fewer than two cases."""
        return _variance(self.positives, self.negatives)


def delong(y_true: Any, score: Any, *, level: float = 0.95) -> Interval:
    """Return the area with its interval on the logit scale; an exact bound if all pairs, or none, are in order."""
    placed = place(*checked_binary(y_true, score))
    n = placed.positives.size + placed.negatives.size
    lower, upper, method = _bounds(placed, level=level)
    note = "" if placed.pairs else "undefined: only one class"
    return Interval(value=placed.auc, lower=lower, upper=upper, n=n, method=method, note=note)


def delong_paired(y_true: Any, first: Any, second: Any, *, level: float = 0.95) -> Comparison:
    """Return the area of the first score minus that of the second on the same cases, with the paired variance."""
    a, b = place(*checked_binary(y_true, first)), place(*checked_binary(y_true, second))
    difference, n = a.auc - b.auc, a.positives.size + a.negatives.size
    if not a.pairs:
        return Comparison(
            difference=NAN, lower=NAN, upper=NAN, p_value=NAN, n=n, method="none", note="undefined: only one class"
        )
    variance = _variance(a.positives - b.positives, a.negatives - b.negatives)
    if not variance > 0:
        return _compare_bounds(a, b, n=n, level=level)
    se = sqrt(variance)
    reach = normal_quantile(level) * se
    return Comparison(
        difference=difference,
        lower=max(-1.0, difference - reach),
        upper=min(1.0, difference + reach),
        p_value=erfc(abs(difference) / se / sqrt(2)),
        n=n,
        method="DeLong, paired",
    )


def place(positive: BoolArray, score: FloatArray) -> Placements:
    """Rank each case among the cases of the other class; a tie counts half."""
    high, low = score[positive], score[~positive]
    m, n = high.size, low.size
    if not (m and n):
        return Placements(NAN, np.full(m, NAN), np.full(n, NAN))
    below, above = _midpoints(high, np.sort(low)), m - _midpoints(low, np.sort(high))
    # A sum of halves is exact, so a perfect area is exactly 1.
    return Placements(float(below.sum() / (m * n)), below / n, above / m)


def _midpoints(values: FloatArray, ordered: FloatArray) -> FloatArray:
    """Return how many of the ordered values lie below each value; a tie counts half."""
    return (np.searchsorted(ordered, values, side="left") + np.searchsorted(ordered, values, side="right")) / 2


def _variance(positives: FloatArray, negatives: FloatArray) -> float:
    if min(positives.size, negatives.size) < 2:
        return NAN
    return float(positives.var(ddof=1) / positives.size + negatives.var(ddof=1) / negatives.size)


def _bounds(placed: Placements, *, level: float) -> tuple[float, float, str]:
    auc, pairs = placed.auc, placed.pairs
    if not pairs:
        return NAN, NAN, "none"
    if auc in {0.0, 1.0}:
        # Disjoint pairs are independent trials with the area as their success rate, and all of them succeeded.
        bound = perfect_bound(pairs, level=level)
        return (
            (bound, 1.0, f"exact for {pairs} disjoint pairs")
            if auc
            else (0.0, 1 - bound, f"exact for {pairs} disjoint pairs")
        )
    variance, method = placed.variance, "DeLong, logit"
    if not variance > 0:
        # No variance of the area can exceed this one (Birnbaum and Klose).
        variance, method = auc * (1 - auc) / pairs, "largest possible variance, logit"
    middle, reach = log(auc / (1 - auc)), normal_quantile(level) * sqrt(variance) / (auc * (1 - auc))
    return _expit(middle - reach), _expit(middle + reach), method


def _expit(x: float) -> float:
    return 1 / (1 + exp(-x)) if x > -500 else 0.0


def _compare_bounds(a: Placements, b: Placements, *, n: int, level: float) -> Comparison:
    """Return the range of differences between the two intervals, where the paired variance is 0 or undefined."""
    identical = np.array_equal(a.positives, b.positives) and np.array_equal(a.negatives, b.negatives)
    difference = a.auc - b.auc
    (low_a, high_a, _), (low_b, high_b, _) = _bounds(a, level=level), _bounds(b, level=level)
    return Comparison(
        difference=difference,
        lower=low_a - high_b,
        upper=high_a - low_b,
        p_value=1.0 if difference == 0 else NAN,
        n=n,
        method="difference of the two intervals",
        note="both scores rank every case alike" if identical else "the variance cannot be estimated",
    )
