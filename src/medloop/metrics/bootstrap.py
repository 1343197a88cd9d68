"""Percentile bootstrap in which a patient's cases are drawn together; a draw is a weight for each case."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from medloop.errors import UserError
from medloop.metrics.estimate import NAN, Comparison, Interval, joined, same, tail
from medloop.metrics.metric import Metric, Plain, checked
from medloop.metrics.view import FloatArray, IntArray

Figure = Metric | Plain

# Weights held at once: 16 MB, whatever the number of cases and draws.
WEIGHTS_AT_ONCE = 1 << 21


def bootstrap(
    function: Figure,
    y_true: Any,
    y_prob: Any,
    *,
    groups: Any = None,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Interval of one metric; groups (one a case, such as the patient) are drawn whole."""
    return bootstrap_each({"it": (function, y_prob)}, y_true, groups=groups, draws=draws, seed=seed, level=level)["it"]


def bootstrap_each(
    figures: Mapping[str, tuple[Figure, Any]],
    y_true: Any,
    *,
    groups: Any = None,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Intervals of many metrics, each on its own probabilities, from the same draws of the same cases."""
    values = draw_values(figures, y_true, groups=groups, draws=draws, seed=seed)
    numbers, count = group_numbers(groups, n=np.asarray(y_true).size)
    unit = "cases" if groups is None else "groups"
    method = f"percentile bootstrap, {draws} draws of {count} {unit}"
    return {
        name: _percentiles(float(function(y_true, y_prob)), values[name], n=numbers.size, method=method, level=level)
        for name, (function, y_prob) in figures.items()
    }


def bootstrap_means(
    values: Any, *, groups: Any = None, draws: int = 2000, seed: int = 0, level: float = 0.95
) -> list[Interval]:
    """Intervals of the mean of each column, such as a net benefit or the size of a set, from one set of draws."""
    table = np.asarray(values, dtype=np.float64)
    numbers, count = group_numbers(groups, n=len(table))
    method = f"percentile bootstrap, {draws} draws of {count} {'cases' if groups is None else 'groups'}"
    if count < 2:
        drawn = np.full((draws, table.shape[1]), NAN)
    else:
        parts = draw_weights(numbers, count, draws=draws, seed=seed)
        drawn = np.concatenate([weights @ table / weights.sum(axis=1, keepdims=True) for weights in parts])
    means = table.mean(axis=0) if len(table) else np.full(table.shape[1], NAN)
    return [
        _percentiles(float(mean), column, n=len(table), method=method, level=level)
        for mean, column in zip(means, drawn.T, strict=True)
    ]


def paired_bootstrap(
    function: Figure,
    y_true: Any,
    first: Any,
    second: Any,
    *,
    groups: Any = None,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Comparison:
    """The metric of the first probabilities minus that of the second, on the same draws of the same cases."""
    values = draw_values(
        {"first": (function, first), "second": (function, second)}, y_true, groups=groups, draws=draws, seed=seed
    )
    _, count = group_numbers(groups, n=np.asarray(y_true).size)
    unit = "cases" if groups is None else "groups"
    difference = float(function(y_true, first)) - float(function(y_true, second))
    gaps = values["first"] - values["second"]
    found = _percentiles(difference, gaps, n=np.asarray(y_true).size, method="", level=level)
    return Comparison(
        difference=difference,
        lower=found.lower,
        upper=found.upper,
        p_value=_two_sided(gaps[np.isfinite(gaps)]) if np.isfinite(found.lower) else NAN,
        n=found.n,
        method=f"paired percentile bootstrap, {draws} draws of {count} {unit}",
        note=found.note,
    )


def draw_values(
    figures: Mapping[str, tuple[Figure, Any]], y_true: Any, *, groups: Any, draws: int, seed: int
) -> dict[str, FloatArray]:
    """The value of each metric on each draw; nan where a draw leaves it undefined."""
    if draws < 1:
        raise UserError("there must be at least one draw", found=str(draws), hint="2000 is usual")
    ready = {name: (_on_draws(function), *checked(y_true, y_prob)) for name, (function, y_prob) in figures.items()}
    numbers, count = group_numbers(groups, n=np.asarray(y_true).size)
    if count < 2:
        return {name: np.full(draws, NAN) for name in figures}
    chunks: dict[str, list[FloatArray]] = {name: [] for name in figures}
    for weights in draw_weights(numbers, count, draws=draws, seed=seed):
        for name, (on_draws, y, p) in ready.items():
            chunks[name].append(on_draws(y, p, weights))
    return {name: np.concatenate(found) for name, found in chunks.items()}


def draw_weights(numbers: IntArray, count: int, *, draws: int, seed: int) -> Iterator[FloatArray]:
    """How often each case is in each draw, a few draws at a time; the same for a seed however many at a time."""
    rng = np.random.default_rng(seed)
    rows = max(1, WEIGHTS_AT_ONCE // max(numbers.size, count))
    identity = bool(np.array_equal(numbers, np.arange(count)))
    for start in range(0, draws, rows):
        size = min(rows, draws - start)
        drawn = rng.integers(0, count, size=(size, count))
        drawn += np.arange(size)[:, None] * count
        times = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count).astype(np.float64)
        yield times if identity else times.take(numbers, axis=1)


def group_numbers(groups: Any, *, n: int) -> tuple[IntArray, int]:
    """The groups as numbers from 0, and how many there are; without groups every case is its own."""
    if groups is None:
        return np.arange(n), n
    names = np.asarray(groups)
    if names.shape != (n,) or not (names.dtype.kind in "iubUS" or any(_all_are(kind, names) for kind in (str, int))):
        raise UserError(
            "every case must have a group, all of them texts or all whole numbers",
            found=f"shape {names.shape} of type {names.dtype} for {n} cases",
            hint="give a case without a patient a group of its own",
        )
    known, numbers = np.unique(names, return_inverse=True)
    return numbers.astype(np.int64), known.size


def _all_are(kind: type, names: Any) -> bool:
    return all(isinstance(name, kind) for name in names)


def _on_draws(function: Figure) -> Callable[[IntArray, FloatArray, FloatArray], FloatArray]:
    if isinstance(function, Metric) and function.weighted is not None:
        return function.weighted

    def one_by_one(y: IntArray, p: FloatArray, weights: FloatArray) -> FloatArray:
        drawn = (np.repeat(np.arange(y.size), row.astype(np.int64)) for row in weights)
        return np.array([function(y[cases], p[cases]) for cases in drawn], dtype=np.float64)

    return one_by_one


def _percentiles(value: float, values: FloatArray, *, n: int, method: str, level: float) -> Interval:
    known = values[np.isfinite(values)]
    undefined = values.size - known.size
    note = f"undefined in {undefined} of {values.size} draws" if undefined else ""
    if not known.size or not np.isfinite(value):
        return Interval(value=value, lower=NAN, upper=NAN, n=n, method=method, note=joined("no interval", note))
    lower, upper = (float(bound) for bound in np.quantile(known, [tail(level), 1 - tail(level)]))
    # Resampling adds noise of its own, which a metric such as ece counts as error.
    inside = lower <= value <= upper or same(value, lower) or same(value, upper)
    biased = "" if inside else "biased in so few cases: the value is outside its interval"
    return Interval(value=value, lower=lower, upper=upper, n=n, method=method, note=joined(note, biased))


def _two_sided(gaps: FloatArray) -> float:
    # The case observed counts as one more draw, so that p is never 0.
    below, above = np.count_nonzero(gaps <= 0), np.count_nonzero(gaps >= 0)
    return float(min(1.0, 2 * (min(below, above) + 1) / (gaps.size + 1)))
