"""Subgroups: the values of a column of the manifest, with numbers cut into bands."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from medloop.case import VALUE_PREFIX
from medloop.errors import UnknownName

Columns = Mapping[str, Sequence[Any]]

# A column with so few different numbers holds codes, such as 0 and 1 for the sex.
MAX_CODES = 5
BANDS = 4
UNKNOWN = "unknown"
# Columns that identify a case or its patient must not be shown, and the label is no subgroup.
NOT_SUBGROUPS = frozenset(
    {
        *("case_id", "patient_id", "patient_alike", "group_id", "path"),
        *("label", "file_sha256", "pixel_sha256", "quarantined"),
    }
)


def banded(columns: Columns, wanted: Sequence[str], members: Sequence[Sequence[int]]) -> dict[str, list[str | None]]:
    """Return the band of each result in each wanted column; a patient has that of its first slice."""
    known = {name.removeprefix(VALUE_PREFIX): values for name, values in columns.items() if name not in NOT_SUBGROUPS}
    for name in wanted:
        if name not in known:
            raise UnknownName("evaluate.subgroups", name, known)
    first = [rows[0] for rows in members]
    return {name: bands_of([known[name][row] for row in first]) for name in wanted}


def bands_of(values: Sequence[Any]) -> list[str | None]:
    """Return texts unchanged and many different numbers in up to four bands of similar size; None where unknown."""
    known = [None if _is_unknown(value) else value for value in values]
    if not _is_quantity(known):
        return [None if value is None else _format_value(value) for value in known]
    edges = _edges(np.array([float(value) for value in known if value is not None]))
    names = _band_names(edges)
    return [None if value is None else names[int(np.searchsorted(edges, value, side="right"))] for value in known]


def _is_unknown(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _is_quantity(values: Sequence[Any]) -> bool:
    known = {value for value in values if value is not None}
    return len(known) > MAX_CODES and all(
        isinstance(value, int | float | np.number) and not isinstance(value, bool) for value in known
    )


def _edges(values: Any) -> list[float]:
    """Return the quartiles, rounded to two digits where they stay different, so that the bands are readable."""
    quartiles = np.quantile(values, np.arange(1, BANDS) / BANDS)
    for digits in (2, 3, 4):
        rounded = sorted({float(f"{edge:.{digits}g}") for edge in quartiles})
        if len(rounded) == len(quartiles):
            break
    return [edge for edge in rounded if values.min() < edge <= values.max()]


def _band_names(edges: Sequence[float]) -> list[str]:
    if not edges:
        return ["all"]
    between = [f"{_format_value(low)} to < {_format_value(high)}" for low, high in pairwise(edges)]
    return [f"< {_format_value(edges[0])}", *between, f">= {_format_value(edges[-1])}"]


def _format_value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float | np.number) and not isinstance(value, bool) else str(value)
