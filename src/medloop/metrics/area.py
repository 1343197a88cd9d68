"""The interval of one area under the ROC curve: a score interval, so that a larger area never has a lower bound."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np

from medloop.metrics.bootstrap import group_numbers
from medloop.metrics.delong import Placements, place
from medloop.metrics.estimate import EVEN, NAN, Interval, normal_quantile, student_quantile
from medloop.metrics.metric import checked_binary
from medloop.metrics.view import FloatArray, IntArray

HALVINGS = 60
# Where `python -m benchmarks auc` finds that fewer than 93% of the intervals may hold the true area.
FEW, HIGH = 30, 0.9
USUAL = 0.95
HELD = "in simulations such an interval held the true area in"
# Below this a variance is rounding.
NO_VARIANCE = 1e-20


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Cases of each class, the independent cases that they are worth at least, and the design effect found."""

    positives: float
    negatives: float
    fewest_positives: float
    fewest_negatives: float
    effect: FloatArray | float = 1.0

    @classmethod
    def single(cls, positives: float, negatives: float) -> Sizes:
        """Each case is independent of all others."""
        return cls(positives=positives, negatives=negatives, fewest_positives=positives, fewest_negatives=negatives)

    def variance(self, area: FloatArray) -> FloatArray:
        """Variance of an area that is truly this: at most that of patients whose cases are all alike."""
        alike = decisive_variance(area, self.fewest_positives, self.fewest_negatives)
        with np.errstate(invalid="ignore"):
            return np.fmin(self.effect * decisive_variance(area, self.positives, self.negatives), alike)


def auc_interval(y_true: Any, score: Any, *, groups: Any = None, level: float = 0.95) -> Interval:
    """The area with its score interval; groups (one a case, such as the patient) are taken as drawn whole."""
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
    note = _note(placed, numbers[positive], numbers[~positive], clustered=count < n) if level == USUAL else ""
    return Interval(value=placed.auc, lower=float(lower[0]), upper=float(upper[0]), n=n, method=method, note=note)


def _note(placed: Placements, of_positives: IntArray, of_negatives: IntArray, *, clustered: bool) -> str:
    """What the simulations say where the interval may hold the true area less often than it should."""
    if clustered:
        worth = min(_worth(numbers)[1] / np.unique(numbers).size for numbers in (of_positives, of_negatives))
        return f"{HELD} 92 to 95% of samples whose groups differ so much in size" if worth < EVEN else ""
    extreme = max(placed.auc, 1 - placed.auc) >= HIGH
    return f"{HELD} 91 to 95% of samples with so few of a class" if placed.pairs < FEW and extreme else ""


def area_bounds(areas: FloatArray, sizes: Sizes, *, level: float = 0.95) -> tuple[FloatArray, FloatArray]:
    """For each area found, the least and the largest true one that it does not contradict."""
    z = normal_quantile(level)
    lower, upper = _least(areas, sizes, z), 1 - _least(1 - areas, sizes, z)
    if np.all(np.asarray(sizes.effect) == 1):
        return lower, upper
    # Few wrong pairs hide how alike the cases of a patient are; no area may seem surer than a perfect one does.
    alike = Sizes.single(sizes.fewest_positives, sizes.fewest_negatives)
    surest = _least(np.ones(1), alike, z)[0]
    return np.minimum(lower, surest), np.maximum(upper, 1 - surest)


def _least(areas: FloatArray, sizes: Sizes, z: float) -> FloatArray:
    """The least true area from which the one found is no further than z standard errors."""
    low, high = np.zeros_like(areas), np.ones_like(areas)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        reached = middle + z * np.sqrt(sizes.variance(middle)) >= areas
        low, high = np.where(reached, low, middle), np.where(reached, middle, high)
    return low


def decisive_variance(area: Any, positives: float, negatives: float) -> FloatArray:
    """The variance that decides: Hanley and McNeil's (1982), but it is the rarer class whose scores vary the more."""
    one, other = (1 - area) / (2 - area), area / (1 + area)
    common, rare = max(positives, negatives) - 1, min(positives, negatives) - 1
    inner = 1 + common * np.maximum(one, other) + rare * np.minimum(one, other)
    return np.asarray(area * (1 - area) * inner / (positives * negatives))


def design_effect(variance: FloatArray, independent: FloatArray, *, groups: int, level: float) -> FloatArray:
    """How many times that of independent cases the variance is, allowing for its being estimated from few groups."""
    known = (variance > NO_VARIANCE) & (independent > NO_VARIANCE) & (groups > 1)
    effect = np.divide(variance, independent, out=np.full(known.shape, inf), where=known)
    unsure = student_quantile(level, groups - 1) / normal_quantile(level)
    return np.asarray(np.maximum(effect, 1.0) * unsure**2)


def obuchowski_variance(placed: Placements, of_positives: IntArray, of_negatives: IntArray) -> float:
    """Variance of the area where cases come in groups (Obuchowski, 1997); DeLong's where each is its own group."""
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
    """What cases in groups are worth; where no pair is wrong nothing is seen of how alike those of a group are."""
    (positives, fewest), (negatives, fewest_negatives) = _worth(of_positives), _worth(of_negatives)
    effect = design_effect(
        np.array(obuchowski_variance(placed, of_positives, of_negatives)),
        np.array(placed.variance),
        groups=min(np.unique(of_positives).size, np.unique(of_negatives).size),
        level=level,
    )
    return Sizes(
        positives=positives,
        negatives=negatives,
        fewest_positives=fewest,
        fewest_negatives=fewest_negatives,
        effect=effect,
    )


def _worth(numbers: IntArray) -> tuple[float, float]:
    """How many cases there are, and as how many they count if those of a group are all alike."""
    sizes = np.bincount(numbers)
    return float(sizes.sum()), float(sizes.sum() ** 2 / (sizes**2).sum())
