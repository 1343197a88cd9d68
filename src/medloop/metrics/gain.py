"""How much better one classifier is than another on the same cases: the interval that suits each metric."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import erfc, isfinite, log, sqrt
from typing import Any

import numpy as np

from medloop.errors import UnknownName
from medloop.metrics import METRICS
from medloop.metrics.bootstrap import group_numbers, paired_bootstrap
from medloop.metrics.delong import Placements, place
from medloop.metrics.estimate import (
    NAN,
    Comparison,
    joined,
    normal_quantile,
    perfect_bound,
    same,
    student_quantile,
    tail,
)
from medloop.metrics.metric import BoolArray, Metric, checked
from medloop.metrics.view import FloatArray, IntArray

# Where fewer patients than this are decided differently, how alike a patient's cases are cannot be estimated.
FEW_DIFFERENT = 10
HALVINGS = 60
# Below so many draws beyond a bound, the bound is taken from a lower level.
MIN_DRAWS_BEYOND = 20
DRAWN_LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Both:
    """What two classifiers say of the same cases; `numbers` says which patient each is of."""

    y: IntArray
    a: FloatArray
    b: FloatArray
    numbers: IntArray

    @property
    def decided_differently(self) -> int:
        """Patients of whom a case was decided differently."""
        return int(np.unique(self.numbers[np.argmax(self.a, axis=1) != np.argmax(self.b, axis=1)]).size)

    def only(self, mask: BoolArray) -> Both:
        """These cases alone."""
        return Both(y=self.y[mask], a=self.a[mask], b=self.b[mask], numbers=self.numbers[mask])


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Cases that both decided: how many, and of how many only one was right; not whole where patients weigh in."""

    n: float
    only_first: float
    only_second: float

    @property
    def difference(self) -> float:
        """The share that the first decides rightly minus that of the second."""
        return (self.only_first - self.only_second) / self.n


@dataclass(frozen=True, kw_only=True)
class Area:
    """The area under the curve, what each patient adds to its error, and the patients of the rarer class."""

    auc: float
    parts: FloatArray
    patients: int
    # The same with one pair the wrong way round, where none is: without a fault nothing is seen of the spread.
    flawed: Area | None = None

    @property
    def spread(self) -> float:
        """Its standard error."""
        return sqrt(variance_of(self.parts))


def gain(
    name: str,
    y_true: Any,
    first: Any,
    second: Any,
    *,
    groups: Any = None,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Comparison:
    """How much nearer to the ideal the first is than the second; above 0 is better, whichever way the metric runs."""
    if name not in METRICS:
        raise UnknownName("a metric", name, METRICS)
    metric, both = METRICS[name], both_of(y_true, first, second, groups=groups)
    if (mask := _trials(metric, both)) is not None:
        return _gain_of_proportion(both.only(mask), level=level)
    if _is_area(metric, both):
        return _gain_of_area(both, level=level)
    clusters = None if np.unique(both.numbers).size == both.y.size else both.numbers
    # So few draws lie beyond a higher level that its bounds are drawn out from those of a lower one.
    drawn = level if draws * tail(level) >= MIN_DRAWS_BEYOND else min(level, DRAWN_LEVEL)
    found = paired_bootstrap(
        _nearness(metric), both.y, both.a, both.b, groups=clusters, draws=draws, seed=seed, level=drawn
    )
    return _mended(_stretched(found, normal_quantile(level) / normal_quantile(drawn)), metric, both, level=level)


def both_of(y_true: Any, first: Any, second: Any, *, groups: Any = None) -> Both:
    """The cases with what two classifiers say of them, checked."""
    (y, a), (_, b) = checked(y_true, first), checked(y_true, second)
    return Both(y=y, a=a, b=b, numbers=group_numbers(groups, n=y.size)[0])


def compared_pairs(name: str, both: Both) -> Pairs | None:
    """How many cases only one of the two decides rightly, where the metric is a share of cases."""
    mask = _trials(METRICS[name], both)
    return None if mask is None or not mask.any() else _pairs(both.only(mask))


def compared_areas(name: str, both: Both) -> tuple[Area, Area] | None:
    """The two areas under the curve, where these are what is compared."""
    if not _is_area(METRICS[name], both):
        return None
    return _area(both, both.a[:, 1]), _area(both, both.b[:, 1])


def paired_score_interval(pairs: Pairs, *, level: float = 0.95) -> tuple[float, float]:
    """Tango's score interval for the difference of two shares of the same cases; it holds with few that differ."""
    z = normal_quantile(level)
    swapped = Pairs(n=pairs.n, only_first=pairs.only_second, only_second=pairs.only_first)
    return _lower(pairs, z), -_lower(swapped, z)


def _lower(pairs: Pairs, z: float) -> float:
    low, high = -1.0, pairs.difference
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _score(pairs, middle) > z else (low, middle)
    return low


def _score(pairs: Pairs, delta: float) -> float:
    """How many standard errors the difference lies above delta, were delta true."""
    if delta < 0:
        return -_score(Pairs(n=pairs.n, only_first=pairs.only_second, only_second=pairs.only_first), -delta)
    n, b, c = pairs.n, pairs.only_first, pairs.only_second
    # The likeliest share of cases that only the second decides rightly, were delta true.
    half = (2 * n - b + c) * delta - b - c
    rest = (sqrt(max(0.0, half * half + 8 * n * c * delta * (1 - delta))) - half) / (4 * n)
    variance = n * (2 * rest + delta * (1 - delta))
    apart = b - c - n * delta
    if variance <= 0:
        return 0.0 if apart == 0 else float(np.copysign(np.inf, apart))
    return apart / sqrt(variance)


def _is_area(metric: Metric, both: Both) -> bool:
    return metric is METRICS["roc_auc"] and both.a.shape[1] == 2


def _stretched(found: Comparison, factor: float) -> Comparison:
    """The interval with both its arms longer by the factor."""
    middle = found.difference
    lower, upper = middle - factor * (middle - found.lower), middle + factor * (found.upper - middle)
    return found if factor == 1 else replace(found, lower=lower, upper=upper)


def _trials(metric: Metric, both: Both) -> BoolArray | None:
    """The cases of which the metric is the share decided rightly, whatever is decided; none for other metrics."""
    if metric.of == "cases":
        return np.ones(both.y.size, dtype=bool)
    if both.a.shape[1] == 2 and metric.of in {"positives", "negatives"}:
        return np.asarray(both.y == (1 if metric.of == "positives" else 0))
    return None


def _gain_of_proportion(both: Both, *, level: float) -> Comparison:
    y = both.y
    if not y.size:
        return Comparison(difference=NAN, lower=NAN, upper=NAN, p_value=NAN, n=0, method="none", note="no such cases")
    pairs, method = _pairs(both), "score interval of paired shares (Tango)"
    if pairs.n != y.size:
        method += f", {y.size} cases worth {pairs.n:.0f} of separate patients"
    lower, upper = paired_score_interval(pairs, level=level)
    different = pairs.only_first + pairs.only_second
    z = abs(pairs.only_first - pairs.only_second) / sqrt(different) if different else 0.0
    return Comparison(
        difference=pairs.difference,
        lower=lower,
        upper=upper,
        p_value=erfc(z / sqrt(2)),
        n=y.size,
        method=method,
    )


def _pairs(both: Both) -> Pairs:
    right_a, right_b = np.argmax(both.a, axis=1) == both.y, np.argmax(both.b, axis=1) == both.y
    apart = right_a.astype(np.float64) - right_b
    units = effective_size(apart, both.numbers)
    share = units / both.y.size
    return Pairs(n=units, only_first=share * float((apart > 0).sum()), only_second=share * float((apart < 0).sum()))


def effective_size(apart: FloatArray, numbers: IntArray) -> float:
    """As many separate patients as these cases are worth, by how alike the differences within a patient are."""
    _, place = np.unique(numbers, return_inverse=True)
    patients = int(place.max()) + 1
    if patients == apart.size:
        return float(apart.size)
    centred = apart - apart.mean()
    sums = np.bincount(place, weights=centred)
    different = np.unique(place[apart != 0]).size
    if different < FEW_DIFFERENT:
        return float(patients)
    spread = float((centred**2).sum() / (apart.size - 1))
    clustered = float((sums**2).sum() * patients / (patients - 1) / apart.size)
    return apart.size / max(1.0, clustered / spread) if spread else float(patients)


def _gain_of_area(both: Both, *, level: float) -> Comparison:
    """DeLong's variance with the cases of a patient added up, and the test turned into an interval on the logit scale.

    Near 1 an area that came out too high seems too sure; on the logit scale it does not. The bounds allow for a
    variance that is known from few patients of the rarer class by Student's t; the p-value is DeLong's.
    """
    first, second = (_area(both, shares[:, 1]) for shares in (both.a, both.b))
    n, method = both.y.size, "paired DeLong on the logit scale"
    if np.unique(both.numbers).size < n:
        method += ", by patient"
    if not isfinite(first.auc):
        return Comparison(
            difference=NAN, lower=NAN, upper=NAN, p_value=NAN, n=n, method="none", note="undefined: only one class"
        )
    if _order_alike(both.a[:, 1], both.b[:, 1]):
        note = "both order the cases alike"
        return Comparison(difference=0.0, lower=0.0, upper=0.0, p_value=1.0, n=n, method=method, note=note)
    spread, difference = sqrt(variance_of(first.parts - second.parts)), first.auc - second.auc
    p_value = erfc(abs(difference) / spread / sqrt(2)) if spread else 1.0 if difference == 0 else 0.0
    lower, upper = _area_bound(first, second, level), -_area_bound(second, first, level)
    found = Comparison(difference=difference, lower=lower, upper=upper, p_value=p_value, n=n, method=method)
    if _vary(first, second):
        return found
    return replace(found, method=f"exact bound for {first.patients} patients", note="the areas do not vary")


def _order_alike(first: FloatArray, second: FloatArray) -> bool:
    """Whether one score only renames the other: all cases in the same order, and hardly any of them tied."""
    _, ranks = np.unique(first, return_inverse=True)
    _, others = np.unique(second, return_inverse=True)
    return np.array_equal(ranks, others) and 2 * (int(ranks.max(initial=0)) + 1) > ranks.size


def _area(both: Both, score: FloatArray) -> Area:
    positive = both.y == 1
    placed = place(positive, score)
    area = _area_of(placed, both)
    if placed.auc != 1:
        return area
    positives, negatives = placed.positives.copy(), placed.negatives.copy()
    positives[np.argmin(score[positive])] -= 1 / negatives.size
    negatives[np.argmax(score[~positive])] -= 1 / positives.size
    fault = 1 / (positives.size * negatives.size)
    return replace(area, flawed=_area_of(Placements(1 - fault, positives, negatives), both))


def _area_of(placed: Placements, both: Both) -> Area:
    parts, patients = np.zeros(both.numbers.max(initial=0) + 1), []
    for kind, shares in ((1, placed.positives), (0, placed.negatives)):
        of = both.numbers[both.y == kind]
        count = np.unique(of).size
        patients.append(count)
        if count > 1:
            scale = sqrt(count / (count - 1)) / of.size
            parts += scale * np.bincount(of, weights=shares - placed.auc, minlength=parts.size)
    return Area(auc=placed.auc, parts=parts, patients=min(patients))


def _area_bound(first: Area, second: Area, level: float) -> float:
    """The least difference that the areas do not contradict."""
    low, high = -1.0, first.auc - second.auc
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if is_gain_above(first, second, middle, level) else (low, middle)
    return low


def is_gain_above(first: Area, second: Area, delta: float, level: float) -> bool:
    """Whether the lower end of the interval for this gain lies above delta."""
    if _vary(first, second):
        return _contradict(first, second, delta, level)
    if first.auc - second.auc - (1 - perfect_bound(first.patients, level=level)) > delta:
        return True
    # A ranking without a fault deserves no worse bound than one with a fault.
    return first.flawed is not None and second.auc < 1 and _contradict(first.flawed, second, delta, level)


def _vary(first: Area, second: Area) -> bool:
    return min(first.spread, second.spread) > 0 and variance_of(first.parts - second.parts) > 0


def variance_of(parts: FloatArray) -> float:
    """The variance of what these parts, one a patient, add up to."""
    return float((parts**2).sum())


def _contradict(first: Area, second: Area, delta: float, level: float) -> bool:
    """Whether the areas contradict this difference; the one that it lowers is moved, away from 1, and both compared."""
    here, there = first.auc - max(0.0, delta), second.auc + min(0.0, delta)
    if min(here, there) <= 0:
        return True
    spread = sqrt(variance_of(first.parts / (here * (1 - here)) - second.parts / (there * (1 - there))))
    return _log_odds(here) - _log_odds(there) > student_quantile(level, first.patients - 1) * spread


def _log_odds(share: float) -> float:
    return log(share / (1 - share))


def _nearness(metric: Metric) -> Metric:
    """The metric turned so that higher is better and 0 is ideal."""
    weighted = metric.weighted
    return replace(
        metric,
        function=lambda y, p: -metric.distance(metric(y, p)),
        weighted=None if weighted is None else lambda y, p, w: -np.abs(weighted(y, p, w) - metric.ideal),
    )


def _mended(found: Comparison, metric: Metric, both: Both, *, level: float) -> Comparison:
    """Draws that hardly differ say nothing of the cases that were not drawn: the bound for the rarest class does."""
    low, high = metric.bounds
    if not isfinite(found.lower) or not isfinite(high - low):
        return found
    few = metric.uses == "decision" and both.decided_differently < FEW_DIFFERENT
    if not few and not same(found.lower, found.upper):
        return found
    rarest = min(np.unique(both.numbers[both.y == k]).size for k in range(both.a.shape[1]))
    reach = (1 - perfect_bound(rarest, level=level)) * (high - low)
    return replace(
        found,
        lower=min(found.lower, found.difference - reach),
        upper=max(found.upper, found.difference + reach),
        method=f"{found.method}, at least the exact bound for {rarest}",
        note=joined(found.note, "hardly any case is decided differently"),
    )
