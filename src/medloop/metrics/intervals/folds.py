"""Intervals over the folds of a cross-validation."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np

from medloop.errors import UserError
from medloop.metrics.intervals.estimate import NAN, Interval, student_quantile
from medloop.metrics.view import FloatArray


def mean_std_interval(values: Sequence[float] | FloatArray, *, level: float = 0.95) -> Interval:
    """Return Student's t interval of the mean over folds, which ignores that folds share training cases."""
    return _t_interval(values, extra=0.0, method="Student's t over folds", level=level)


def repeated_cv_interval(
    values: Sequence[float] | FloatArray, test_fraction: float, *, level: float = 0.95
) -> Interval:
    """Return Nadeau and Bengio's corrected t interval, which allows for the training cases that folds share."""
    if not 0 < test_fraction < 1:
        raise UserError(
            f"The fraction of held-out cases is {test_fraction}, not between 0 and 1.", "Pass 1 / k for k folds."
        )
    extra = test_fraction / (1 - test_fraction)
    return _t_interval(values, extra=extra, method="corrected resampled t (Nadeau and Bengio)", level=level)


def _t_interval(values: Sequence[float] | FloatArray, *, extra: float, method: str, level: float) -> Interval:
    folds = np.asarray(values, dtype=np.float64)
    if folds.ndim != 1:
        raise UserError(f"The fold values have shape {folds.shape}.", "Pass one number for each fold.")
    known = folds[np.isfinite(folds)]
    note = f"undefined in {folds.size - known.size} of {folds.size} folds" if known.size < folds.size else ""
    if known.size < 2:
        value = float(known[0]) if known.size else NAN
        why = note or "needs at least two folds"
        return Interval(value=value, lower=NAN, upper=NAN, n=known.size, method=method, note=why, std=NAN)
    mean, std = float(known.mean()), float(known.std(ddof=1))
    reach = student_quantile(level, known.size - 1) * std * sqrt(1 / known.size + extra)
    return Interval(value=mean, lower=mean - reach, upper=mean + reach, n=known.size, method=method, note=note, std=std)
