"""Score interval of the area under the ROC curve, whose bounds never decrease as the area grows."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np

from medloop.metrics.intervals.bootstrap import group_numbers
from medloop.metrics.intervals.delong import Placements, place
from medloop.metrics.intervals.estimate import MIN_EVENNESS, NAN, Interval, normal_quantile, student_quantile
from medloop.metrics.metric import checked_binary
from medloop.metrics.view import FloatArray, IntArray

HALVINGS = 60
# With fewer cases of a class and an area this high, coverage may be below 93% (`python -m benchmarks auc`).
MIN_CASES, HIGH_AREA = 30, 0.9
SIMULATED_LEVEL = 0.95
COVERED = "in simulations, such intervals covered the true area in"
# A smaller variance is a rounding error.
MIN_VARIANCE = 1e-20


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The cases of each class, their minimum effective numbers, and the estimated design effect."""

    positives: float
    negatives: float
    min_positives: float
    min_negatives: float
    effect: FloatArray | float = 1.0

    @classmethod
    def single(cls, positives: float, negatives: float) -> Sizes:
        """Return the sizes of independent cases."""
        return cls(positives=positives, negatives=negatives, min_positives=positives, min_negatives=negatives)

    def variance(self, area: FloatArray) -> FloatArray:
        """Return the variance if this is the true area: at most that of patients whose cases are all identical."""
        identical = decisive_variance(area, self.min_positives, self.min_negatives)
        with np.errstate(invalid="ignore"):
            return np.fmin(self.effect * decisive_variance(area, self.positives, self.negatives), identical)


def auc_interval(y_true: Any, score: Any, *, groups: Any = None, level: float = 0.95) -> Interval:
    """Return the area with its score interval; cases of one group (such as a patient) are correlated."""
    positive, values = checked_binary(y_true, score)
    placed, n = place(positive, values), positive.size
    if not placed.pairs:
        return Interval(value=placed.auc, lower=NAN, upper=NAN, n=n, method="none", note="undefined: only one class")
    numbers, count = group_numbers(groups, n=n)
    if count == n:
        sizes, method = Sizes.single(placed.positives.size, placed.negatives.size), "score interval, Hanley-McNeil"
    else:
        sizes = _clustered(placed, numbers[positive], numbers[~positive], level=level)
        method = f"score interval, Obuchowski's variance, {n} cases of {count} groups"
    lower, upper = area_bounds(np.array([placed.auc]), sizes, level=level)
    note = (
        _coverage_note(placed, numbers[positive], numbers[~positive], clustered=count < n)
        if level == SIMULATED_LEVEL
        else ""
    )
    return Interval(value=placed.auc, lower=float(lower[0]), upper=float(upper[0]), n=n, method=method, note=note)


def _coverage_note(placed: Placements, of_positives: IntArray, of_negatives: IntArray, *, clustered: bool) -> str:
    """Return a note where simulations showed less coverage than the level."""
    if clustered:
        evenness = min(
            _effective_size(numbers)[1] / np.unique(numbers).size for numbers in (of_positives, of_negatives)
        )
        return f"{COVERED} 92 to 95% of samples with groups so unequal" if evenness < MIN_EVENNESS else ""
    extreme = max(placed.auc, 1 - placed.auc) >= HIGH_AREA
    return (
        f"{COVERED} 91 to 95% of samples with so few cases of a class" if placed.pairs < MIN_CASES and extreme else ""
    )


def area_bounds(areas: FloatArray, sizes: Sizes, *, level: float = 0.95) -> tuple[FloatArray, FloatArray]:
    """Return the smallest and the largest true area that is compatible with each observed area."""
    z = normal_quantile(level)
    lower, upper = _smallest_area(areas, sizes, z), 1 - _smallest_area(1 - areas, sizes, z)
    if np.all(np.asarray(sizes.effect) == 1):
        return lower, upper
    # Few discordant pairs hardly show the correlation within patients: no bound may exceed that of a perfect area.
    identical = Sizes.single(sizes.min_positives, sizes.min_negatives)
    highest = _smallest_area(np.ones(1), identical, z)[0]
    return np.minimum(lower, highest), np.maximum(upper, 1 - highest)


def _smallest_area(areas: FloatArray, sizes: Sizes, z: float) -> FloatArray:
    """Return the smallest true area that is within z standard errors of the observed one."""
    low, high = np.zeros_like(areas), np.ones_like(areas)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        reached = middle + z * np.sqrt(sizes.variance(middle)) >= areas
        low, high = np.where(reached, low, middle), np.where(reached, middle, high)
    return low


def decisive_variance(area: Any, positives: float, negatives: float) -> FloatArray:
    """Return Hanley and McNeil's variance (1982), with the larger component given to the rarer class."""
    one, other = (1 - area) / (2 - area), area / (1 + area)
    common, rare = max(positives, negatives) - 1, min(positives, negatives) - 1
    inner = 1 + common * np.maximum(one, other) + rare * np.minimum(one, other)
    return np.asarray(area * (1 - area) * inner / (positives * negatives))


def design_effect(variance: FloatArray, independent: FloatArray, *, groups: int, level: float) -> FloatArray:
    """Return the ratio of the variance to that of independent cases, increased for its estimation from few groups."""
    known = (variance > MIN_VARIANCE) & (independent > MIN_VARIANCE) & (groups > 1)
    effect = np.divide(variance, independent, out=np.full(known.shape, inf), where=known)
    widening = student_quantile(level, groups - 1) / normal_quantile(level)
    return np.asarray(np.maximum(effect, 1.0) * widening**2)


def obuchowski_variance(placed: Placements, of_positives: IntArray, of_negatives: IntArray) -> float:
    """Return Obuchowski's variance (1997) of the area of grouped cases; without groups it is DeLong's."""
    count = int(max(of_positives.max(), of_negatives.max())) + 1
    apart, groups = [], []
    for numbers, shares in ((of_positives, placed.positives), (of_negatives, placed.negatives)):
        apart.append(np.bincount(numbers, weights=shares - placed.auc, minlength=count) / numbers.size)
        groups.append(np.unique(numbers).size)
    if min(groups) < 2:
        return NAN
    (first, second), (i, j) = apart, groups
    alone = i / (i - 1) * (first**2).sum() + j / (j - 1) * (second**2).sum()
    return float(alone + 2 * count / (count - 1) * (first * second).sum())


def _clustered(placed: Placements, of_positives: IntArray, of_negatives: IntArray, *, level: float) -> Sizes:
    """Return the sizes of grouped cases; without discordant pairs the correlation within groups is unknown."""
    (positives, min_positives), (negatives, min_negatives) = (
        _effective_size(of_positives),
        _effective_size(of_negatives),
    )
    effect = design_effect(
        np.array(obuchowski_variance(placed, of_positives, of_negatives)),
        np.array(placed.variance),
        groups=min(np.unique(of_positives).size, np.unique(of_negatives).size),
        level=level,
    )
    return Sizes(
        positives=positives,
        negatives=negatives,
        min_positives=min_positives,
        min_negatives=min_negatives,
        effect=effect,
    )


def _effective_size(numbers: IntArray) -> tuple[float, float]:
    """Return the number of cases, and their effective number if the cases of a group are all identical."""
    sizes = np.bincount(numbers)
    return float(sizes.sum()), float(sizes.sum() ** 2 / (sizes**2).sum())
