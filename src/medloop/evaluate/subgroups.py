"""How the bundle does in each subgroup: every band of every column that the recipe names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medloop.evaluate.bands import UNKNOWN
from medloop.evaluate.figures import Measured, figures_of
from medloop.recipe import EvaluateSection

OF_TWO = ("accuracy", "recall", "specificity", "roc_auc", "brier", "calibration_intercept")
OF_MANY = ("accuracy", "balanced_accuracy", "roc_auc", "brier")

Bands = Mapping[str, Sequence[str | None]]


def subgroup_figures(
    measured: Measured, bands: Bands, section: EvaluateSection
) -> dict[str, dict[str, dict[str, Any]]]:
    """By column and band: how many cases of each kind, and the figures with their intervals."""
    return {
        column: {
            band: _figures(measured, np.array([UNKNOWN if one is None else one for one in values]) == band, section)
            for band in ordered(values)
        }
        for column, values in bands.items()
    }


def _figures(measured: Measured, inside: Any, section: EvaluateSection) -> dict[str, Any]:
    truth, groups = measured.truth[inside], [g for g, kept in zip(measured.groups, inside, strict=True) if kept]
    return {
        "n": int(inside.sum()),
        "groups": len(set(groups)),
        "counts": {name: int((truth == number).sum()) for number, name in enumerate(measured.names)},
        "abstained": int(measured.silent[inside].sum()),
        "figures": figures_of(
            truth,
            measured.shares[inside],
            measured.decisions[inside],
            groups,
            section,
            names=OF_TWO if len(measured.names) == 2 else OF_MANY,
        ),
    }


def ordered(values: Sequence[str | None]) -> list[str]:
    """The bands from low to high, other values by name, and what is unknown last."""
    found = {value for value in values if value is not None}
    rest = [UNKNOWN] if None in values else []
    return [*sorted(found, key=_place), *rest]


def _place(band: str) -> tuple[float, str]:
    words = band.split()
    if band.startswith("< "):
        return -np.inf, band
    try:
        return float(words[-1] if band.startswith(">= ") else words[0]), band
    except (ValueError, IndexError):
        return np.inf, band
