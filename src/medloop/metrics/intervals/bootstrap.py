"""Percentile bootstrap that draws all cases of a patient together; a draw is one weight for each case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from medloop.errors import UserError
from medloop.metrics.intervals.estimate import NAN, Comparison, Interval, is_close, join_notes, tail
from medloop.metrics.metric import Metric, Plain, checked, values_of_draws
from medloop.metrics.view import FloatArray, IntArray

Figure = Metric | Plain

# At most 16 MB of weights are held at a time.
MAX_WEIGHTS = 1 << 21


@dataclass(frozen=True, kw_only=True, eq=False)
class Resampling:
    """How intervals are drawn: the group of each case (such as its patient), the draws, their seed and the level."""

    groups: Any = None
    draws: int = 2000
    seed: int = 0
    level: float = 0.95


DEFAULT = Resampling()


def bootstrap(function: Figure, y_true: Any, y_prob: Any, how: Resampling = DEFAULT) -> Interval:
    """Return the interval of one metric."""
    return bootstrap_each({"it": (function, y_prob)}, y_true, how)["it"]


def bootstrap_each(
    figures: Mapping[str, tuple[Figure, Any]], y_true: Any, how: Resampling = DEFAULT
) -> dict[str, Interval]:
    """Return the intervals of many metrics, each of its own probabilities, from the same draws of the same cases."""
    values = draw_values(figures, y_true, how)
    n = np.asarray(y_true).size
    method = _describe_method(how, n=n)
    return {
        name: _percentiles(float(function(y_true, y_prob)), values[name], n=n, method=method, level=how.level)
        for name, (function, y_prob) in figures.items()
    }


def bootstrap_means(values: Any, how: Resampling = DEFAULT) -> list[Interval]:
    """Return the interval of the mean of each column, such as a net benefit or a set size, from one set of draws."""
    table = np.asarray(values, dtype=np.float64)
    n = len(table)
    numbers, count = group_numbers(how.groups, n=n)
    if count < 2:
        drawn = np.full((how.draws, table.shape[1]), NAN)
    else:
        parts = draw_weights(numbers, count, draws=how.draws, seed=how.seed)
        drawn = np.concatenate([weights @ table / weights.sum(axis=1, keepdims=True) for weights in parts])
    means = table.mean(axis=0) if n else np.full(table.shape[1], NAN)
    method = _describe_method(how, n=n)
    return [
        _percentiles(float(mean), column, n=n, method=method, level=how.level)
        for mean, column in zip(means, drawn.T, strict=True)
    ]


def paired_bootstrap(function: Figure, y_true: Any, first: Any, second: Any, how: Resampling = DEFAULT) -> Comparison:
    """Return the metric of the first probabilities minus that of the second, on the same draws of the same cases."""
    values = draw_values({"first": (function, first), "second": (function, second)}, y_true, how)
    difference = float(function(y_true, first)) - float(function(y_true, second))
    gaps = values["first"] - values["second"]
    n = np.asarray(y_true).size
    interval = _percentiles(difference, gaps, n=n, method=f"paired {_describe_method(how, n=n)}", level=how.level)
    return Comparison(
        difference=difference,
        lower=interval.lower,
        upper=interval.upper,
        p_value=_two_sided(gaps[np.isfinite(gaps)]) if np.isfinite(interval.lower) else NAN,
        n=n,
        method=interval.method,
        note=interval.note,
    )


def draw_values(
    figures: Mapping[str, tuple[Figure, Any]], y_true: Any, how: Resampling = DEFAULT
) -> dict[str, FloatArray]:
    """Return the value of each metric in each draw; NaN where a draw leaves it undefined."""
    if how.draws < 1:
        raise UserError(f"A bootstrap of {how.draws} draws is not possible.", "2000 draws are usual.")
    ready = {name: (function, *checked(y_true, y_prob)) for name, (function, y_prob) in figures.items()}
    numbers, count = group_numbers(how.groups, n=np.asarray(y_true).size)
    if count < 2:
        return {name: np.full(how.draws, NAN) for name in figures}
    chunks: dict[str, list[FloatArray]] = {name: [] for name in figures}
    for weights in draw_weights(numbers, count, draws=how.draws, seed=how.seed):
        for name, (function, y, p) in ready.items():
            chunks[name].append(values_of_draws(function, y, p, weights))
    return {name: np.concatenate(parts) for name, parts in chunks.items()}


def draw_weights(numbers: IntArray, count: int, *, draws: int, seed: int) -> Iterator[FloatArray]:
    """Yield how often each case occurs in each draw, a few draws at a time; the chunk size does not change them."""
    rng = np.random.default_rng(seed)
    rows = max(1, MAX_WEIGHTS // max(numbers.size, count))
    identity = bool(np.array_equal(numbers, np.arange(count)))
    for start in range(0, draws, rows):
        size = min(rows, draws - start)
        drawn = rng.integers(0, count, size=(size, count))
        drawn += np.arange(size)[:, None] * count
        times = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count).astype(np.float64)
        yield times if identity else times.take(numbers, axis=1)


def group_numbers(groups: Any, *, n: int) -> tuple[IntArray, int]:
    """Return the groups as numbers from 0 and their count; without groups every case is its own."""
    if groups is None:
        return np.arange(n), n
    names = np.asarray(groups)
    if names.shape != (n,) or not (names.dtype.kind in "iubUS" or any(_all_are(kind, names) for kind in (str, int))):
        raise UserError(
            f"The groups have shape {names.shape} and type {names.dtype} for {n} cases.",
            "Pass one group for each case, all strings or all integers; a case without a patient is its own group.",
        )
    known, numbers = np.unique(names, return_inverse=True)
    return numbers.astype(np.int64), known.size


def _all_are(kind: type, names: Any) -> bool:
    return all(isinstance(name, kind) for name in names)


def _describe_method(how: Resampling, *, n: int) -> str:
    _, count = group_numbers(how.groups, n=n)
    return f"percentile bootstrap, {how.draws} draws of {count} {'cases' if how.groups is None else 'groups'}"


def _percentiles(value: float, values: FloatArray, *, n: int, method: str, level: float) -> Interval:
    known = values[np.isfinite(values)]
    undefined = values.size - known.size
    note = f"undefined in {undefined} of {values.size} draws" if undefined else ""
    if not known.size or not np.isfinite(value):
        return Interval(value=value, lower=NAN, upper=NAN, n=n, method=method, note=join_notes("no interval", note))
    lower, upper = (float(bound) for bound in np.quantile(known, [tail(level), 1 - tail(level)]))
    # Resampling adds noise of its own, which a metric such as ece counts as error.
    inside = lower <= value <= upper or is_close(value, lower) or is_close(value, upper)
    biased = "" if inside else "biased with so few cases: the value lies outside its interval"
    return Interval(value=value, lower=lower, upper=upper, n=n, method=method, note=join_notes(note, biased))


def _two_sided(gaps: FloatArray) -> float:
    # The observed cases count as one more draw, so that p is never 0.
    below, above = np.count_nonzero(gaps <= 0), np.count_nonzero(gaps >= 0)
    return float(min(1.0, 2 * (min(below, above) + 1) / (gaps.size + 1)))
