"""Subgroups: the values of a manifest's column, numbers cut into bands."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from medloop.case import VALUE_PREFIX
from medloop.errors import UnknownName

Columns = Mapping[str, Sequence[Any]]

# A number with so few values is a code, such as 0 and 1 for the sex, and no quantity.
MOST_CODES = 5
BANDS = 4
UNKNOWN = "unknown"
# What says who or what a case is makes no subgroup, and must not be shown.
NAMES = frozenset(
    {
        *("case_id", "patient_id", "patient_alike", "group_id", "path"),
        *("label", "file_sha256", "pixel_sha256", "quarantined"),
    }
)


def banded(columns: Columns, wanted: Sequence[str], members: Sequence[Sequence[int]]) -> dict[str, list[str | None]]:
    """The band of each answer in each wanted column; several slices of a patient have that of the first."""
    known = {name.removeprefix(VALUE_PREFIX): values for name, values in columns.items() if name not in NAMES}
    for name in wanted:
        if name not in known:
            raise UnknownName("evaluate.subgroups", name, known)
    first = [rows[0] for rows in members]
    return {name: bands_of([known[name][row] for row in first]) for name in wanted}


def bands_of(values: Sequence[Any]) -> list[str | None]:
    """Texts as they are, numbers of many values in up to four bands of about equal size; None where unknown."""
    there = [None if _is_unknown(value) else value for value in values]
    if not _is_quantity(there):
        return [None if value is None else _shown(value) for value in there]
    edges = _edges(np.array([float(value) for value in there if value is not None]))
    names = _names(edges)
    return [None if value is None else names[int(np.searchsorted(edges, value, side="right"))] for value in there]


def _is_unknown(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _is_quantity(values: Sequence[Any]) -> bool:
    known = {value for value in values if value is not None}
    return len(known) > MOST_CODES and all(
        isinstance(value, int | float | np.number) and not isinstance(value, bool) for value in known
    )


def _edges(values: Any) -> list[float]:
    """Quartiles, rounded to two digits where that keeps them apart, so that the bands read well."""
    quartiles = np.quantile(values, np.arange(1, BANDS) / BANDS)
    for digits in (2, 3, 4):
        rounded = sorted({float(f"{edge:.{digits}g}") for edge in quartiles})
        if len(rounded) == len(quartiles):
            break
    return [edge for edge in rounded if values.min() < edge <= values.max()]


def _names(edges: Sequence[float]) -> list[str]:
    if not edges:
        return ["all"]
    between = [f"{_shown(low)} to < {_shown(high)}" for low, high in pairwise(edges)]
    return [f"< {_shown(edges[0])}", *between, f">= {_shown(edges[-1])}"]


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float | np.number) and not isinstance(value, bool) else str(value)
