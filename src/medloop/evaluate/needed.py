"""How many cases a figure's bound would need to clear a fixed limit, and whether any model could clear it on these."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, isfinite
from typing import Any

import numpy as np

from medloop.evaluate.against_champion import LEVEL, metric_of
from medloop.evaluate.decided import Decided
from medloop.metrics import METRICS
from medloop.metrics.estimate import normal_quantile
from medloop.metrics.intervals import interval_for
from medloop.metrics.power import NORMAL, cases_needed_for_area, cases_needed_for_share, least_factor
from medloop.metrics.view import IntArray, one_hot
from medloop.recipe import GateRule

FOLDS = "folds"
Figure = Mapping[str, Any]


def what_is_needed(rule: GateRule, figure: Figure, *, decided: Decided | None, power: float) -> str:
    """What to say of a bound that missed the limit; nothing where more cases would not help."""
    # More folds would not make a bound any nearer: they share their cases.
    if rule.bound == "value" or figure.get("method") == FOLDS or figure[rule.bound] is None:
        return ""
    if hopeless := _beyond_any_model(rule, metric_of(rule), decided):
        return hopeless
    value, bound, n = float(figure["value"]), float(figure[rule.bound]), int(figure["n"])
    beyond = value > rule.limit if rule.at_least is not None else value < rule.limit
    if not (beyond and isfinite(bound)):
        return ""
    needed = needed_for_bound(rule, figure, decided=decided, power=power)
    if needed <= n:
        return ""
    return f"not enough cases: need n >= {needed:,} (have {n:,}) for {power:.0%} power if {value:.3f} is the truth"


def needed_for_bound(rule: GateRule, figure: Figure, *, decided: Decided | None, power: float) -> int:
    """Cases for the bound to clear the limit with this power, were the value that was found the true one."""
    value, bound, n = float(figure["value"]), float(figure[rule.bound]), int(figure["n"])
    if str(figure.get("method")).startswith("Wilson"):
        return cases_needed_for_share(value, bound, rule.limit, n=n, power=power, level=LEVEL)
    is_area = metric_of(rule) == "roc_auc" and decided is not None and decided.shares.shape[1] == 2
    if decided is not None and is_area and rule.bound == "lower" and np.unique(decided.groups).size == n:
        counts = int((decided.truth == 0).sum()), int((decided.truth == 1).sum())
        return cases_needed_for_area(value, rule.limit, counts=counts, power=power, level=LEVEL)
    reach, room = abs(value - bound), abs(value - rule.limit)
    above = normal_quantile(LEVEL)
    return ceil(n * ((above + NORMAL.inv_cdf(power)) * reach / above / room) ** 2)


def _beyond_any_model(rule: GateRule, metric: str, decided: Decided | None) -> str:
    """Whether a classifier without fault would miss the limit too, and how many cases it would need."""
    if decided is None or metric not in METRICS or rule.bound != "lower" or rule.at_least is None:
        return ""
    if METRICS[metric].better != "higher" or not decided.truth.size:
        return ""
    classes, units = decided.shares.shape[1], _one_a_patient(decided)
    best = _bound_of_perfect(metric, units, classes)
    if not best < rule.limit:
        return ""
    counts = np.bincount(units, minlength=classes)
    factor = least_factor(lambda grown: _clears(metric, counts, grown, rule.limit)) if rule.limit < 1 else float("inf")
    few = f"too few cases for any model: even a perfect one has a lower bound of {best:.3f}"
    if not isfinite(factor):
        return few
    return f"{few}; need n >= {ceil(factor * units.size):,} in these proportions (have {units.size:,})"


def _one_a_patient(decided: Decided) -> IntArray:
    """The truth of one case of each patient: what all cases of a patient tell of a class, were they all alike."""
    _, first = np.unique(decided.groups, return_index=True)
    return np.asarray(decided.truth[first])


def _bound_of_perfect(metric: str, truth: IntArray, classes: int) -> float:
    return interval_for(metric, truth, one_hot(truth, classes), draws=100, level=LEVEL).lower


def _clears(metric: str, counts: Any, factor: float, limit: float) -> bool:
    grown = np.repeat(np.arange(counts.size), np.floor(counts * min(factor, 1000.0) + 1e-9).astype(np.int64))
    return factor > 1000.0 or _bound_of_perfect(metric, grown, counts.size) >= limit
