"""The interval of each metric: a closed form where one is valid, else the bootstrap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isnan
from typing import Any

import numpy as np

from medloop.errors import UnknownName
from medloop.metrics import METRICS
from medloop.metrics.intervals.area import auc_interval
from medloop.metrics.intervals.bootstrap import DEFAULT, Resampling, bootstrap_each, group_numbers
from medloop.metrics.intervals.estimate import NAN, Interval, is_close, join_notes, perfect_bound
from medloop.metrics.intervals.proportions import wilson, wilson_clustered
from medloop.metrics.metric import BoolArray, Metric, Part, checked
from medloop.metrics.view import FloatArray, IntArray

# With fewer cases of a kind, the interval carries a note.
MIN_CASES = 20


@dataclass(frozen=True)
class Measured:
    """The cases of one metric; `numbers` holds the group of each."""

    metric: Metric
    y: IntArray
    p: FloatArray
    numbers: IntArray
    clustered: bool

    @property
    def parts(self) -> dict[str, BoolArray]:
        """Return the kinds of case that the metric depends on, by their names in notes."""
        masks = self._masks()
        of = self.metric.of
        if of == "cases" or (of and self.binary):
            return {PART_NAMES[of]: masks[of]}
        if self.binary:
            return {PART_NAMES[part]: masks[part] for part in ("positives", "negatives")}
        return {f"cases of class {k}": self.y == k for k in range(self.p.shape[1])}

    @property
    def binary(self) -> bool:
        """Whether there are two classes."""
        return bool(self.p.shape[1] == 2)

    def units(self, mask: BoolArray) -> int:
        """Return the number of groups in the mask; without groups, of cases."""
        return int(np.unique(self.numbers[mask]).size)

    def _masks(self) -> dict[Part, BoolArray]:
        chosen = np.argmax(self.p, axis=1)
        everything = np.ones(self.y.size, dtype=bool)
        return {"cases": everything, "positives": self.y == 1, "negatives": self.y == 0, "predicted": chosen == 1}


PART_NAMES: dict[Part, str] = {
    "cases": "cases",
    "positives": "positives",
    "negatives": "negatives",
    "predicted": "predicted positives",
}


def interval_for(name: str, y_true: Any, y_prob: Any, how: Resampling = DEFAULT) -> Interval:
    """Return the interval of one metric on these cases."""
    return intervals_for({name: y_prob}, y_true, how)[name]


def intervals_for(probabilities: Mapping[str, Any], y_true: Any, how: Resampling = DEFAULT) -> dict[str, Interval]:
    """Return the intervals of the named metrics, each of its probabilities or decisions, from one set of draws."""
    cases = {name: _measured(name, y_true, p, how.groups) for name, p in probabilities.items()}
    closed = {name: _closed_form(one, level=how.level) for name, one in cases.items()}
    found = {name: interval for name, interval in closed.items() if interval is not None}
    drawn = {name: (one.metric, one.p) for name, one in cases.items() if name not in found}
    if drawn:
        clustered = any(one.clustered for one in cases.values())
        for name, interval in bootstrap_each(drawn, y_true, how if clustered else replace(how, groups=None)).items():
            found[name] = _at_least_exact(interval, cases[name], level=how.level)
    return {name: _with_notes(found[name], cases[name]) for name in probabilities}


def _measured(name: str, y_true: Any, y_prob: Any, groups: Any) -> Measured:
    if name not in METRICS:
        raise UnknownName("metric", name, METRICS)
    y, p = checked(y_true, y_prob)
    numbers, count = group_numbers(groups, n=y.size)
    return Measured(METRICS[name], y, p, numbers, clustered=count < y.size)


def _closed_form(one: Measured, *, level: float) -> Interval | None:
    """Return an undefined interval, Wilson's, MOVER or the area's; None where the bootstrap is needed."""
    value = one.metric(one.y, one.p)
    if isnan(value):
        return Interval(value=NAN, lower=NAN, upper=NAN, n=one.y.size, method="none", note=_undefined_note(one))
    if one.metric.proportion and len(one.parts) == 1:
        (trials,) = one.parts.values()
        right = np.argmax(one.p, axis=1) == one.y
        return _wilson_of(right[trials], one.numbers[trials], clustered=one.clustered, level=level)
    if one.metric is METRICS["roc_auc"] and one.binary:
        return auc_interval(one.y, one.p[:, 1], groups=one.numbers, level=level)
    if one.metric is METRICS["balanced_accuracy"]:
        return _mover_interval(one, level=level)
    return None


def _wilson_of(right: BoolArray, numbers: IntArray, *, clustered: bool, level: float) -> Interval:
    if clustered:
        return wilson_clustered(right, numbers, level=level)
    return wilson(int(right.sum()), right.size, level=level)


def _mover_interval(one: Measured, *, level: float) -> Interval | None:
    """Return the mean of the classes' sensitivities; its half-widths are the root sum of squares of theirs (MOVER).

    Zou and Donner, 2008. The bootstrap is too narrow where the few cases of a class are all decided alike.
    """
    right, masks = np.argmax(one.p, axis=1) == one.y, [one.y == k for k in range(one.p.shape[1])]
    if not all(mask.any() for mask in masks):
        return None
    shares = [_wilson_of(right[mask], one.numbers[mask], clustered=one.clustered, level=level) for mask in masks]
    value = one.metric(one.y, one.p)
    below, above = (
        float(np.hypot.reduce(arms)) / len(shares)
        for arms in ([share.value - share.lower for share in shares], [share.upper - share.value for share in shares])
    )
    return Interval(
        value=value,
        lower=value - below,
        upper=value + above,
        n=one.y.size,
        method="mean of Wilson's intervals of the classes (MOVER)",
        note=join_notes(*dict.fromkeys(share.note for share in shares)),
    )


def _undefined_note(one: Measured) -> str:
    empty = [name for name, mask in one.parts.items() if not mask.any()]
    return f"undefined: no {', no '.join(empty)}" if empty else "undefined on these cases"


def _at_least_exact(interval: Interval, one: Measured, *, level: float) -> Interval:
    """Replace an interval of width 0, which all draws of perfect cases have, by the exact bound for the rarest kind."""
    if isnan(interval.lower) or not is_close(interval.lower, interval.upper):
        return interval
    low, high = one.metric.bounds
    if not np.isfinite(high - low) or not (is_close(interval.value, low) or is_close(interval.value, high)):
        return replace(interval, note=join_notes(interval.note, "all draws are equal"))
    rarest = min(one.units(mask) for mask in one.parts.values())
    reach = (1 - perfect_bound(rarest, level=level)) * (high - low)
    unit = "groups" if one.clustered else "cases"
    method = f"exact bound for {rarest} of {rarest} {unit}"
    if is_close(interval.value, high):
        return replace(interval, lower=high - reach, method=method)
    return replace(interval, upper=low + reach, method=method)


def _with_notes(interval: Interval, one: Measured) -> Interval:
    if isnan(interval.value):
        return interval
    few = []
    for name, mask in one.parts.items():
        count = one.units(mask)
        if count < MIN_CASES:
            few.append(f"only {count} groups with {name}" if one.clustered else f"only {count} {name}")
    return replace(interval, note=join_notes(*few, interval.note))
