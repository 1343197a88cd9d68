"""The interval that suits each metric: closed forms where they hold, else the bootstrap; and all of them by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isnan
from typing import Any

import numpy as np

from medloop.errors import UnknownName
from medloop.metrics import METRICS
from medloop.metrics.area import auc_interval
from medloop.metrics.bootstrap import bootstrap, bootstrap_each, group_numbers, paired_bootstrap
from medloop.metrics.delong import delong, delong_paired
from medloop.metrics.estimate import NAN, Comparison, Interval, joined, perfect_bound, same
from medloop.metrics.folds import mean_std_interval, repeated_cv_interval
from medloop.metrics.metric import BoolArray, Metric, Part, checked
from medloop.metrics.proportions import (
    Discordance,
    cases_needed_for_lower_bound,
    mcnemar_exact,
    wilson,
    wilson_clustered,
)
from medloop.metrics.view import FloatArray, IntArray

__all__ = [
    "Comparison",
    "Discordance",
    "Interval",
    "auc_interval",
    "bootstrap",
    "bootstrap_each",
    "cases_needed_for_lower_bound",
    "delong",
    "delong_paired",
    "interval_for",
    "intervals_for",
    "mcnemar_exact",
    "mean_std_interval",
    "paired_bootstrap",
    "repeated_cv_interval",
    "wilson",
    "wilson_clustered",
]

# With fewer cases of a kind than this, whoever reads the interval should know.
FEW = 20


@dataclass(frozen=True)
class Measured:
    """The cases that one metric is measured on; `numbers` says which group each is in."""

    metric: Metric
    y: IntArray
    p: FloatArray
    numbers: IntArray
    clustered: bool

    @property
    def parts(self) -> dict[str, BoolArray]:
        """The kinds of case that the metric stands on, by the name that a note gives them."""
        masks = self._masks()
        of = self.metric.of
        if of == "cases" or (of and self.binary):
            return {_SPOKEN[of]: masks[of]}
        if self.binary:
            return {_SPOKEN[part]: masks[part] for part in ("positives", "negatives")}
        return {f"cases of class {k}": self.y == k for k in range(self.p.shape[1])}

    @property
    def binary(self) -> bool:
        """Whether there is one positive class."""
        return bool(self.p.shape[1] == 2)

    def units(self, mask: BoolArray) -> int:
        """How many independent things the mask holds: groups, or cases where each is its own group."""
        return int(np.unique(self.numbers[mask]).size)

    def _masks(self) -> dict[Part, BoolArray]:
        chosen = np.argmax(self.p, axis=1)
        everything = np.ones(self.y.size, dtype=bool)
        return {"cases": everything, "positives": self.y == 1, "negatives": self.y == 0, "predicted": chosen == 1}


_SPOKEN: dict[Part, str] = {
    "cases": "cases",
    "positives": "positives",
    "negatives": "negatives",
    "predicted": "predicted positives",
}


def interval_for(
    name: str,
    y_true: Any,
    y_prob: Any,
    *,
    groups: Any = None,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """The interval of one metric on these cases."""
    return intervals_for({name: y_prob}, y_true, groups=groups, draws=draws, seed=seed, level=level)[name]


def intervals_for(
    probabilities: Mapping[str, Any],
    y_true: Any,
    *,
    groups: Any = None,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Intervals of the named metrics, each on its probabilities or decisions, from one set of draws."""
    cases = {name: _measured(name, y_true, p, groups) for name, p in probabilities.items()}
    closed = {name: _closed_form(one, level=level) for name, one in cases.items()}
    found = {name: interval for name, interval in closed.items() if interval is not None}
    drawn = {name: (one.metric, one.p) for name, one in cases.items() if name not in found}
    if drawn:
        clusters = groups if any(one.clustered for one in cases.values()) else None
        for name, interval in bootstrap_each(
            drawn, y_true, groups=clusters, draws=draws, seed=seed, level=level
        ).items():
            found[name] = _mended(interval, cases[name], level=level)
    return {name: _noted(found[name], cases[name]) for name in probabilities}


def _measured(name: str, y_true: Any, y_prob: Any, groups: Any) -> Measured:
    if name not in METRICS:
        raise UnknownName("a metric", name, METRICS)
    y, p = checked(y_true, y_prob)
    numbers, count = group_numbers(groups, n=y.size)
    return Measured(METRICS[name], y, p, numbers, clustered=count < y.size)


def _closed_form(one: Measured, *, level: float) -> Interval | None:
    """Undefined, Wilson or the area's score interval; none where only the bootstrap will do."""
    value = one.metric(one.y, one.p)
    if isnan(value):
        return Interval(value=NAN, lower=NAN, upper=NAN, n=one.y.size, method="none", note=_why_undefined(one))
    if one.metric.proportion and len(one.parts) == 1:
        (trials,) = one.parts.values()
        right = np.argmax(one.p, axis=1) == one.y
        return _share(right[trials], one.numbers[trials], clustered=one.clustered, level=level)
    if one.metric is METRICS["roc_auc"] and one.binary:
        return auc_interval(one.y, one.p[:, 1], groups=one.numbers, level=level)
    if one.metric is METRICS["balanced_accuracy"]:
        return _mean_of_shares(one, level=level)
    return None


def _share(right: BoolArray, numbers: IntArray, *, clustered: bool, level: float) -> Interval:
    if clustered:
        return wilson_clustered(right, numbers, level=level)
    return wilson(int(right.sum()), right.size, level=level)


def _mean_of_shares(one: Measured, *, level: float) -> Interval | None:
    """The mean of the classes' shares, its arms those of the shares' intervals added in squares (MOVER).

    Zou and Donner, 2008. Unlike the bootstrap it allows for what a few cases of a class, all decided alike, hide.
    """
    right, masks = np.argmax(one.p, axis=1) == one.y, [one.y == k for k in range(one.p.shape[1])]
    if not all(mask.any() for mask in masks):
        return None
    shares = [_share(right[mask], one.numbers[mask], clustered=one.clustered, level=level) for mask in masks]
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
        note=joined(*dict.fromkeys(share.note for share in shares)),
    )


def _why_undefined(one: Measured) -> str:
    empty = [name for name, mask in one.parts.items() if not mask.any()]
    return f"undefined: no {', no '.join(empty)}" if empty else "undefined on these cases"


def _mended(interval: Interval, one: Measured, *, level: float) -> Interval:
    """Draws of flawless cases are all flawless, which says nothing: the exact bound for the rarest kind does."""
    if isnan(interval.lower) or not same(interval.lower, interval.upper):
        return interval
    low, high = one.metric.bounds
    if not np.isfinite(high - low) or not (same(interval.value, low) or same(interval.value, high)):
        return replace(interval, note=joined(interval.note, "all draws are equal"))
    rarest = min(one.units(mask) for mask in one.parts.values())
    reach = (1 - perfect_bound(rarest, level=level)) * (high - low)
    unit = "groups" if one.clustered else "cases"
    method = f"exact bound for {rarest} of {rarest} {unit}"
    if same(interval.value, high):
        return replace(interval, lower=high - reach, method=method)
    return replace(interval, upper=low + reach, method=method)


def _noted(interval: Interval, one: Measured) -> Interval:
    if isnan(interval.value):
        return interval
    few = []
    for name, mask in one.parts.items():
        count = one.units(mask)
        if count < FEW:
            few.append(f"only {count} groups with {name}" if one.clustered else f"only {count} {name}")
    return replace(interval, note=joined(*few, interval.note))
