"""The figures of each subgroup: every band of every column that the recipe names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medloop.evaluate.figures.bands import UNKNOWN
from medloop.evaluate.figures.scores import Measured, figures_of, resampling
from medloop.recipe import EvaluateSection

BINARY_METRICS = ("accuracy", "recall", "specificity", "roc_auc", "brier", "calibration_intercept")
MULTICLASS_METRICS = ("accuracy", "balanced_accuracy", "roc_auc", "brier")

Bands = Mapping[str, Sequence[str | None]]


def subgroup_figures(
    measured: Measured, bands: Bands, section: EvaluateSection
) -> dict[str, dict[str, dict[str, Any]]]:
    """Return by column and band the number of cases of each class, and the figures with their intervals."""
    return {
        column: {
            band: _figures_of_band(
                measured, np.array([UNKNOWN if one is None else one for one in values]) == band, section
            )
            for band in sort_bands(values)
        }
        for column, values in bands.items()
    }


def _figures_of_band(measured: Measured, inside: Any, section: EvaluateSection) -> dict[str, Any]:
    truth, groups = measured.truth[inside], [g for g, kept in zip(measured.groups, inside, strict=True) if kept]
    return {
        "n": int(inside.sum()),
        "groups": len(set(groups)),
        "counts": {name: int((truth == number).sum()) for number, name in enumerate(measured.names)},
        "abstained": int(measured.abstained[inside].sum()),
        "figures": figures_of(
            truth,
            measured.shares[inside],
            measured.decisions[inside],
            resampling(groups, section),
            names=BINARY_METRICS if len(measured.names) == 2 else MULTICLASS_METRICS,
        ),
    }


def sort_bands(values: Sequence[str | None]) -> list[str]:
    """Return the bands from low to high, other values by name, and the unknown last."""
    found = {value for value in values if value is not None}
    rest = [UNKNOWN] if None in values else []
    return [*sorted(found, key=_sort_key), *rest]


def _sort_key(band: str) -> tuple[float, str]:
    words = band.split()
    if band.startswith("< "):
        return -np.inf, band
    try:
        return float(words[-1] if band.startswith(">= ") else words[0]), band
    except (ValueError, IndexError):
        return np.inf, band
