"""The number of cases that a rule with a fixed limit needs, and whether any model could pass it with fewer."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, isfinite
from typing import Any

import numpy as np

from medloop.gate.against_champion import LEVEL, metric_of
from medloop.gate.predictions import Predictions
from medloop.metrics import METRICS
from medloop.metrics.intervals.bootstrap import Resampling
from medloop.metrics.intervals.by_metric import interval_for
from medloop.metrics.intervals.estimate import normal_quantile
from medloop.metrics.intervals.power import NORMAL, cases_needed_for_area, cases_needed_for_share, min_factor
from medloop.metrics.view import IntArray, one_hot
from medloop.recipe import GateRule

FOLDS = "folds"
Figure = Mapping[str, Any]


def sample_size_note(rule: GateRule, figure: Figure, *, predictions: Predictions | None, power: float) -> str:
    """Return a note on the sample size for a bound that missed the limit; empty if more cases would not help."""
    # More folds would not narrow the interval, since they share their cases.
    if rule.bound == "value" or figure.get("method") == FOLDS or figure[rule.bound] is None:
        return ""
    if impossible := _impossible_for_any_model(rule, metric_of(rule), predictions):
        return impossible
    value, bound, n = float(figure["value"]), float(figure[rule.bound]), int(figure["n"])
    beyond = value > rule.limit if rule.at_least is not None else value < rule.limit
    if not (beyond and isfinite(bound)):
        return ""
    needed = cases_needed_for_bound(rule, figure, predictions=predictions, power=power)
    if needed <= n:
        return ""
    return (
        f"too few cases: at least {needed:,} are needed (there are {n:,}) for {power:.0%} power, assuming that "
        f"{value:.3f} is the true value"
    )


def cases_needed_for_bound(rule: GateRule, figure: Figure, *, predictions: Predictions | None, power: float) -> int:
    """Return the number of cases with which the bound clears the limit, assuming that the observed value is true."""
    value, bound, n = float(figure["value"]), float(figure[rule.bound]), int(figure["n"])
    if str(figure.get("method")).startswith("Wilson"):
        return cases_needed_for_share(value, bound, rule.limit, n=n, power=power, level=LEVEL)
    is_area = metric_of(rule) == "roc_auc" and predictions is not None and predictions.shares.shape[1] == 2
    if predictions is not None and is_area and rule.bound == "lower" and np.unique(predictions.groups).size == n:
        counts = int((predictions.truth == 0).sum()), int((predictions.truth == 1).sum())
        return cases_needed_for_area(value, rule.limit, counts=counts, power=power, level=LEVEL)
    reach, room = abs(value - bound), abs(value - rule.limit)
    above = normal_quantile(LEVEL)
    return ceil(n * ((above + NORMAL.inv_cdf(power)) * reach / above / room) ** 2)


def _impossible_for_any_model(rule: GateRule, metric: str, predictions: Predictions | None) -> str:
    """Return a note if even a perfect classifier would miss the limit, with the number of cases it would need."""
    if predictions is None or metric not in METRICS or rule.bound != "lower" or rule.at_least is None:
        return ""
    if METRICS[metric].better != "higher" or not predictions.truth.size:
        return ""
    classes, units = predictions.shares.shape[1], _one_per_patient(predictions)
    best = _bound_of_perfect(metric, units, classes)
    if not best < rule.limit:
        return ""
    counts = np.bincount(units, minlength=classes)
    factor = min_factor(lambda grown: _clears(metric, counts, grown, rule.limit)) if rule.limit < 1 else float("inf")
    reason = f"too few cases for any model: even a perfect one would have a lower bound of {best:.3f}"
    if not isfinite(factor):
        return reason
    needed = ceil(factor * units.size)
    return f"{reason}; at least {needed:,} cases in these class proportions are needed (there are {units.size:,})"


def _one_per_patient(predictions: Predictions) -> IntArray:
    """Return the true class of one case of each patient, as if the cases of a patient were all identical."""
    _, first = np.unique(predictions.groups, return_index=True)
    return np.asarray(predictions.truth[first])


def _bound_of_perfect(metric: str, truth: IntArray, classes: int) -> float:
    return interval_for(metric, truth, one_hot(truth, classes), Resampling(draws=100, level=LEVEL)).lower


def _clears(metric: str, counts: Any, factor: float, limit: float) -> bool:
    grown = np.repeat(np.arange(counts.size), np.floor(counts * min(factor, 1000.0) + 1e-9).astype(np.int64))
    return factor > 1000.0 or _bound_of_perfect(metric, grown, counts.size) >= limit
