"""Compare a table with an earlier one: columns that were swapped, rescaled, changed or removed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from medloop.case import Finding

# Kolmogorov-Smirnov distances above and below which two distributions count as different and as the same.
MIN_DIFFERENT, MAX_SAME = 0.5, 0.2
FACTORS = (10.0, 100.0, 1000.0, 2.54, 0.1, 0.01, 0.001, 1 / 2.54)

Columns = Mapping[str, "np.ndarray[Any, np.dtype[np.float64]]"]


def compare_with_reference(values: pd.DataFrame, reference: pd.DataFrame) -> Iterator[Finding]:
    """Yield a finding for each column that is missing or differs from the reference."""
    absent = [str(name) for name in reference if name not in values]
    if absent:
        yield Finding(
            name="columns_gone",
            severity="severe",
            what=f"Columns of the reference are missing from the data: {', '.join(absent)}.",
            where=tuple(absent),
            count=len(absent),
            todo="Restore them, or change audit.reference.",
        )
    both = [str(name) for name in reference if name in values and _is_known(reference[name], values[name])]
    for name in both:
        if _is_number(values[name]) != _is_number(reference[name]):
            yield Finding(
                name="changed_kind",
                severity="severe",
                what=f"Column '{name}' contains {'numbers' if _is_number(values[name]) else 'text'}, but "
                f"{'text' if _is_number(values[name]) else 'numbers'} in the reference.",
                where=(name,),
                count=1,
                todo="Check how it was exported, and data.categories.",
            )
    names = [name for name in both if _is_number(values[name]) and _is_number(reference[name])]
    now = {name: values[name].dropna().to_numpy(float) for name in names}
    then = {name: reference[name].dropna().to_numpy(float) for name in names}
    changed = [name for name in names if distance(now[name], then[name]) > MIN_DIFFERENT]
    yield from (_explain_change(name, changed, now, then) for name in changed)


def _explain_change(name: str, changed: list[str], now: Columns, then: Columns) -> Finding:
    """Return a finding with the most likely reason: another unit, a swap with another column, or neither."""
    scale, factor = min((distance(now[name] / factor, then[name]), factor) for factor in FACTORS)
    swap, partner = min(
        ((distance(now[name], then[other]), other) for other in changed if other != name), default=(1, "")
    )
    if min(scale, swap) >= MAX_SAME:
        kind, what = "changed_column", "has a different distribution than in the reference."
        todo = "Check its meaning and origin."
    elif swap <= scale:
        kind, what, todo = (
            "swapped_column",
            f"has the distribution that '{partner}' has in the reference.",
            "Check whether columns were swapped.",
        )
    else:
        kind, what, todo = "rescaled_column", f"is {factor:g} times as large as in the reference.", "Check its unit."
    return Finding(
        name=kind,
        severity="warning" if kind == "changed_column" else "severe",
        what=f"Column '{name}' {what}",
        where=(name,),
        count=1,
        todo=todo,
    )


def _is_known(*columns: pd.Series[Any]) -> bool:
    return all(column.notna().any() for column in columns)


def _is_number(column: pd.Series[Any]) -> bool:
    return bool(pd.api.types.is_numeric_dtype(column))


def distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the Kolmogorov-Smirnov statistic: 0 for equal distributions, 1 for disjoint ones."""
    from scipy.stats import ks_2samp

    if not len(first) or not len(second):
        return 1.0
    return float(ks_2samp(first, second, method="asymp").statistic)
