"""Checks that the numbers of a bundle and its outputs are finite and in range."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from medloop.bundle import files
from medloop.bundle.decide import Decider, FloatArray
from medloop.errors import BrokenBundle

# Rounding may put sums of probabilities this far outside.
ROUNDING = 1e-6


def check_decider(decider: Decider) -> None:
    """Raise unless classes, temperature, threshold, quantiles and limit are valid."""
    classes, outliers = decider.classes, decider.outliers
    if len(set(classes)) != len(classes) or not set(decider.positive) <= set(classes):
        raise _unsound("bundle.json has a duplicate class, or a positive class that is not among the classes.")
    _check("The temperature", decider.temperature, above=0.0)
    _check("The error rate of the conformal sets", decider.conformal_alpha, above=0.0, below=1.0)
    if decider.threshold is not None:
        _check("The threshold", decider.threshold, minimum=0.0, maximum=1.0)
    if len(decider.conformal) != len(classes):
        raise _unsound(f"There are {len(decider.conformal)} conformal quantiles for {len(classes)} classes.")
    _check("A conformal quantile", decider.conformal, minimum=0.0, maximum=1.0)
    _check("The limit on distances", outliers.limit, minimum=0.0)
    _check("The spread of the training cases", outliers.rest, minimum=0.0)
    for array in (outliers.mean, outliers.precision, outliers.directions):
        if array is not None:
            _check("The spread of the training cases", array)


def check_outputs(outputs: Mapping[str, FloatArray]) -> None:
    """Raise unless the outputs of the model for a made-up case are finite numbers."""
    for name, values in outputs.items():
        _check(f"The model's output ({name}) for a made-up case", values)


def _check(
    what: str,
    value: Any,
    *,
    minimum: float = -np.inf,
    maximum: float = np.inf,
    above: float = -np.inf,
    below: float = np.inf,
) -> None:
    """Raise unless every number is finite and in its range."""
    numbers = np.asarray(value)
    if numbers.dtype.kind not in "iuf":
        raise _unsound(f"{what} is not a number ({numbers.dtype}).")
    if not np.isfinite(numbers).all():
        raise _unsound(f"{what} is NaN or infinite.")
    smallest, largest = numbers.min(initial=np.inf), numbers.max(initial=-np.inf)
    is_outside = smallest < minimum - ROUNDING or largest > maximum + ROUNDING or smallest <= above or largest >= below
    if is_outside:
        raise _unsound(f"{what} is out of range" + (f" ({smallest:g})." if numbers.ndim == 0 else "."))


def _unsound(problem: str) -> BrokenBundle:
    return BrokenBundle(problem, files.EXPORT_AGAIN)
