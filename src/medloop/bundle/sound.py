"""Whether what a bundle says and answers can be meant: numbers that are finite and within their range."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from medloop.bundle import files
from medloop.bundle.decide import Decider, FloatArray
from medloop.errors import BrokenBundle

# Sums of probabilities may lie this far outside.
ROUNDING = 1e-6


def check_decider(decider: Decider) -> None:
    """Raise unless classes, temperature, threshold, quantiles and limit are such as an export writes."""
    classes, outliers = decider.classes, decider.outliers
    if len(set(classes)) != len(classes) or not set(decider.positive) <= set(classes):
        raise _unsound("Classes that are named twice, or a positive class that is none of them.", "bundle.json")
    _check("The temperature", decider.temperature, above=0.0)
    _check("The share of errors that the sets may make", decider.conformal_alpha, above=0.0, below=1.0)
    if decider.threshold is not None:
        _check("The threshold", decider.threshold, least=0.0, most=1.0)
    if len(decider.conformal) != len(classes):
        raise _unsound("Not one conformal quantile for each class.", f"{len(decider.conformal)} for {len(classes)}")
    _check("A conformal quantile", decider.conformal, least=0.0, most=1.0)
    _check("The limit on distances", outliers.limit, least=0.0)
    _check("The spread of the training cases", outliers.rest, least=0.0)
    for array in (outliers.mean, outliers.precision, outliers.directions):
        if array is not None:
            _check("The spread of the training cases", array)


def check_outputs(outputs: Mapping[str, FloatArray]) -> None:
    """Raise unless the model's outputs for a made-up case are numbers."""
    for name, values in outputs.items():
        _check(f"The model's output ({name}) for a made-up case", values)


def _check(
    what: str,
    value: Any,
    *,
    least: float = -np.inf,
    most: float = np.inf,
    above: float = -np.inf,
    below: float = np.inf,
) -> None:
    """Raise unless every number is finite and in its range."""
    numbers = np.asarray(value)
    if numbers.dtype.kind not in "iuf":
        raise _unsound(f"{what} is not a number.", str(numbers.dtype))
    if not np.isfinite(numbers).all():
        raise _unsound(f"{what} is not finite.", "NaN or an infinity")
    smallest, largest = numbers.min(initial=np.inf), numbers.max(initial=-np.inf)
    is_outside = smallest < least - ROUNDING or largest > most + ROUNDING or smallest <= above or largest >= below
    if is_outside:
        raise _unsound(f"{what} is out of range.", f"{smallest:g}" if numbers.ndim == 0 else "a value outside")


def _unsound(problem: str, found: str) -> BrokenBundle:
    return BrokenBundle(problem, found=found, hint=files.EXPORT_AGAIN)
