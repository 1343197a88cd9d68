"""The gain of one classifier over another on the same cases, with the interval that is valid for each metric."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import erfc, isfinite, log, sqrt
from typing import Any

import numpy as np

from medloop.errors import UnknownName
from medloop.metrics import METRICS
from medloop.metrics.intervals.bootstrap import DEFAULT, Resampling, group_numbers, paired_bootstrap
from medloop.metrics.intervals.delong import Placements, place
from medloop.metrics.intervals.estimate import (
    NAN,
    Comparison,
    is_close,
    join_notes,
    normal_quantile,
    perfect_bound,
    student_quantile,
    tail,
)
from medloop.metrics.metric import BoolArray, Metric, Vectorised, checked, values_of_draws
from medloop.metrics.view import FloatArray, IntArray

# With fewer patients who are decided differently, the correlation within patients cannot be estimated.
MIN_DISCORDANT = 10
HALVINGS = 60
# With fewer draws beyond a bound, the bound is extrapolated from that of a lower level.
MIN_DRAWS_BEYOND = 20
DRAWN_LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class PairedScores:
    """The scores of two classifiers on the same cases; `numbers` holds the patient of each case."""

    y: IntArray
    a: FloatArray
    b: FloatArray
    numbers: IntArray

    @property
    def discordant_patients(self) -> int:
        """The number of patients with a case that the two decide differently."""
        return int(np.unique(self.numbers[np.argmax(self.a, axis=1) != np.argmax(self.b, axis=1)]).size)

    def subset(self, mask: BoolArray) -> PairedScores:
        """Return the selected cases."""
        return PairedScores(y=self.y[mask], a=self.a[mask], b=self.b[mask], numbers=self.numbers[mask])


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """The number of cases, and of those that only one classified correctly; effective numbers, so not integers."""

    n: float
    only_first: float
    only_second: float

    @property
    def difference(self) -> float:
        """The accuracy of the first minus that of the second."""
        return (self.only_first - self.only_second) / self.n


@dataclass(frozen=True, kw_only=True)
class Area:
    """The area under the curve, the contribution of each patient to its error, and the patients of the rarer class."""

    auc: float
    parts: FloatArray
    patients: int
    # For a perfect area, the same with one discordant pair, since without any no variance is observed.
    with_error: Area | None = None

    @property
    def spread(self) -> float:
        """The standard error of the area."""
        return sqrt(variance_of(self.parts))


def gain(name: str, y_true: Any, first: Any, second: Any, how: Resampling = DEFAULT) -> Comparison:
    """Return how much nearer to the ideal the first is than the second: above 0 is better for every metric."""
    if name not in METRICS:
        raise UnknownName("metric", name, METRICS)
    metric, both = METRICS[name], pair_scores(y_true, first, second, groups=how.groups)
    if (mask := _trials(metric, both)) is not None:
        return _gain_of_proportion(both.subset(mask), level=how.level)
    if _is_area(metric, both):
        return _gain_of_area(both, level=how.level)
    clusters = None if np.unique(both.numbers).size == both.y.size else both.numbers
    # Too few draws lie beyond the bounds of a high level, so these are extrapolated from those of a lower one.
    drawn = how.level if how.draws * tail(how.level) >= MIN_DRAWS_BEYOND else min(how.level, DRAWN_LEVEL)
    found = paired_bootstrap(_nearness(metric), both.y, both.a, both.b, replace(how, groups=clusters, level=drawn))
    stretched = _stretched(found, normal_quantile(how.level) / normal_quantile(drawn))
    return _at_least_exact(stretched, metric, both, level=how.level)


def pair_scores(y_true: Any, first: Any, second: Any, *, groups: Any = None) -> PairedScores:
    """Return the checked cases with the scores of both classifiers."""
    (y, a), (_, b) = checked(y_true, first), checked(y_true, second)
    return PairedScores(y=y, a=a, b=b, numbers=group_numbers(groups, n=y.size)[0])


def compared_pairs(name: str, both: PairedScores) -> Pairs | None:
    """Return how many cases only one of the two classifies correctly, if the metric is a share of cases."""
    mask = _trials(METRICS[name], both)
    return None if mask is None or not mask.any() else _pairs(both.subset(mask))


def compared_areas(name: str, both: PairedScores) -> tuple[Area, Area] | None:
    """Return the two areas under the curve, if the metric is an area."""
    if not _is_area(METRICS[name], both):
        return None
    return _area(both, both.a[:, 1]), _area(both, both.b[:, 1])


def paired_score_interval(pairs: Pairs, *, level: float = 0.95) -> tuple[float, float]:
    """Return Tango's score interval for the difference of paired proportions; valid with few discordant cases."""
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
    """Return the distance of the observed difference from delta in standard errors, assuming that delta is true."""
    if delta < 0:
        return -_score(Pairs(n=pairs.n, only_first=pairs.only_second, only_second=pairs.only_first), -delta)
    n, b, c = pairs.n, pairs.only_first, pairs.only_second
    # The maximum-likelihood share of cases that only the second classifies correctly, given delta.
    half = (2 * n - b + c) * delta - b - c
    rest = (sqrt(max(0.0, half * half + 8 * n * c * delta * (1 - delta))) - half) / (4 * n)
    variance = n * (2 * rest + delta * (1 - delta))
    apart = b - c - n * delta
    if variance <= 0:
        return 0.0 if apart == 0 else float(np.copysign(np.inf, apart))
    return apart / sqrt(variance)


def _is_area(metric: Metric, both: PairedScores) -> bool:
    return metric is METRICS["roc_auc"] and both.a.shape[1] == 2


def _stretched(found: Comparison, factor: float) -> Comparison:
    """Return the interval with both half-widths multiplied by the factor."""
    middle = found.difference
    lower, upper = middle - factor * (middle - found.lower), middle + factor * (found.upper - middle)
    return found if factor == 1 else replace(found, lower=lower, upper=upper)


def _trials(metric: Metric, both: PairedScores) -> BoolArray | None:
    """Return the cases of which the metric is the share classified correctly; None for other metrics."""
    if metric.of == "cases":
        return np.ones(both.y.size, dtype=bool)
    if both.a.shape[1] == 2 and metric.of in {"positives", "negatives"}:
        return np.asarray(both.y == (1 if metric.of == "positives" else 0))
    return None


def _gain_of_proportion(both: PairedScores, *, level: float) -> Comparison:
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


def _pairs(both: PairedScores) -> Pairs:
    correct_a, correct_b = np.argmax(both.a, axis=1) == both.y, np.argmax(both.b, axis=1) == both.y
    apart = correct_a.astype(np.float64) - correct_b
    units = effective_size(apart, both.numbers)
    share = units / both.y.size
    return Pairs(n=units, only_first=share * float((apart > 0).sum()), only_second=share * float((apart < 0).sum()))


def effective_size(apart: FloatArray, numbers: IntArray) -> float:
    """Return the effective number of independent cases, from the correlation of the differences within patients."""
    _, place = np.unique(numbers, return_inverse=True)
    patients = int(place.max()) + 1
    if patients == apart.size:
        return float(apart.size)
    centred = apart - apart.mean()
    sums = np.bincount(place, weights=centred)
    different = np.unique(place[apart != 0]).size
    if different < MIN_DISCORDANT:
        return float(patients)
    spread = float((centred**2).sum() / (apart.size - 1))
    clustered = float((sums**2).sum() * patients / (patients - 1) / apart.size)
    return apart.size / max(1.0, clustered / spread) if spread else float(patients)


def _gain_of_area(both: PairedScores, *, level: float) -> Comparison:
    """Return the interval that inverts the test on the logit scale, with DeLong's variance summed by patient.

    Without the logit scale the variance of an area near 1 would be underestimated. The bounds use Student's t with the
    patients of the rarer class, from which the variance is estimated; the p-value is DeLong's.
    """
    first, second = (_area(both, shares[:, 1]) for shares in (both.a, both.b))
    n, method = both.y.size, "paired DeLong on the logit scale"
    if np.unique(both.numbers).size < n:
        method += ", by patient"
    if not isfinite(first.auc):
        return Comparison(
            difference=NAN, lower=NAN, upper=NAN, p_value=NAN, n=n, method="none", note="undefined: only one class"
        )
    if _rank_alike(both.a[:, 1], both.b[:, 1]):
        note = "both rank the cases alike"
        return Comparison(difference=0.0, lower=0.0, upper=0.0, p_value=1.0, n=n, method=method, note=note)
    spread, difference = sqrt(variance_of(first.parts - second.parts)), first.auc - second.auc
    p_value = erfc(abs(difference) / spread / sqrt(2)) if spread else 1.0 if difference == 0 else 0.0
    lower, upper = _area_bound(first, second, level), -_area_bound(second, first, level)
    found = Comparison(difference=difference, lower=lower, upper=upper, p_value=p_value, n=n, method=method)
    if _vary(first, second):
        return found
    return replace(found, method=f"exact bound for {first.patients} patients", note="the areas have no variance")


def _rank_alike(first: FloatArray, second: FloatArray) -> bool:
    """Return whether both scores rank all cases in the same order, with hardly any ties."""
    _, ranks = np.unique(first, return_inverse=True)
    _, others = np.unique(second, return_inverse=True)
    return np.array_equal(ranks, others) and 2 * (int(ranks.max(initial=0)) + 1) > ranks.size


def _area(both: PairedScores, score: FloatArray) -> Area:
    positive = both.y == 1
    placed = place(positive, score)
    area = _area_of(placed, both)
    if placed.auc != 1:
        return area
    positives, negatives = placed.positives.copy(), placed.negatives.copy()
    positives[np.argmin(score[positive])] -= 1 / negatives.size
    negatives[np.argmax(score[~positive])] -= 1 / positives.size
    fault = 1 / (positives.size * negatives.size)
    return replace(area, with_error=_area_of(Placements(1 - fault, positives, negatives), both))


def _area_of(placed: Placements, both: PairedScores) -> Area:
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
    """Return the smallest difference that is compatible with the areas."""
    low, high = -1.0, first.auc - second.auc
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if is_gain_above(first, second, middle, level) else (low, middle)
    return low


def is_gain_above(first: Area, second: Area, delta: float, level: float) -> bool:
    """Return whether the lower bound of the gain lies above delta."""
    if _vary(first, second):
        return _exceeds(first, second, delta, level)
    if first.auc - second.auc - (1 - perfect_bound(first.patients, level=level)) > delta:
        return True
    # A perfect ranking must not have a lower bound below that of a ranking with one error.
    return first.with_error is not None and second.auc < 1 and _exceeds(first.with_error, second, delta, level)


def _vary(first: Area, second: Area) -> bool:
    return min(first.spread, second.spread) > 0 and variance_of(first.parts - second.parts) > 0


def variance_of(parts: FloatArray) -> float:
    """Return the variance of the sum of these contributions, one for each patient."""
    return float((parts**2).sum())


def _exceeds(first: Area, second: Area, delta: float, level: float) -> bool:
    """Return whether the difference is significantly above delta: delta is applied to the area that it lowers."""
    here, there = first.auc - max(0.0, delta), second.auc + min(0.0, delta)
    if min(here, there) <= 0:
        return True
    spread = sqrt(variance_of(first.parts / (here * (1 - here)) - second.parts / (there * (1 - there))))
    return _log_odds(here) - _log_odds(there) > student_quantile(level, first.patients - 1) * spread


def _log_odds(share: float) -> float:
    return log(share / (1 - share))


def _nearness(metric: Metric) -> Vectorised:
    """Return the metric as a score of which higher is better and 0 is ideal."""
    return Vectorised(lambda y, p, weights: -np.abs(values_of_draws(metric, y, p, weights) - metric.ideal))


def _at_least_exact(found: Comparison, metric: Metric, both: PairedScores, *, level: float) -> Comparison:
    """Widen the interval to the exact bound of the rarest class, where the two hardly differ in any draw."""
    low, high = metric.bounds
    if not isfinite(found.lower) or not isfinite(high - low):
        return found
    hardly_differ = metric.uses == "decision" and both.discordant_patients < MIN_DISCORDANT
    if not hardly_differ and not is_close(found.lower, found.upper):
        return found
    rarest = min(np.unique(both.numbers[both.y == k]).size for k in range(both.a.shape[1]))
    reach = (1 - perfect_bound(rarest, level=level)) * (high - low)
    return replace(
        found,
        lower=min(found.lower, found.difference - reach),
        upper=max(found.upper, found.difference + reach),
        method=f"{found.method}, at least the exact bound for {rarest}",
        note=join_notes(found.note, "hardly any case is decided differently"),
    )
