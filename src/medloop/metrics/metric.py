"""The definition of a metric, the checks of its arguments and the arithmetic that all metrics share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medloop.errors import UserError
from medloop.metrics.view import FloatArray, IntArray

BoolArray = NDArray[np.bool_]
Plain = Callable[[IntArray, FloatArray], float]
Weighted = Callable[[IntArray, FloatArray, FloatArray], FloatArray]
Binary = Callable[[BoolArray, FloatArray, FloatArray], FloatArray]
Part = Literal["cases", "positives", "negatives", "predicted"]

# The rounding error of a float32 softmax must not be refused.
ROUNDING = 1e-6
SUM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Vectorised:
    """A metric that computes all draws of a bootstrap at once: one row of case weights for each. Faster; optional."""

    weighted: Weighted

    def __call__(self, y_true: IntArray, y_prob: FloatArray) -> float:
        """Return the value with every case counted once."""
        return float(self.weighted(y_true, y_prob, np.ones((1, y_true.size)))[0])


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A function (y_true, y_prob) -> float with what is needed to read, compare and draw its value."""

    function: Plain
    uses: Literal["probability", "decision"]
    better: Literal["higher", "lower", "nearest"]
    ideal: float
    says: str
    bounds: tuple[float, float] = (0.0, 1.0)
    of: Part | None = None
    # Whether short tables show it.
    main: bool = False

    @property
    def proportion(self) -> bool:
        """Whether the value of a binary task is the share of correct decisions among cases of one kind."""
        return self.of is not None

    def __call__(self, y_true: IntArray, y_prob: FloatArray) -> float:
        """Return the value on these cases, which are checked first; NaN where it is undefined or there are no cases."""
        y, p = checked(y_true, y_prob)
        return self.function(y, p) if y.size else float("nan")

    def distance(self, value: float) -> float:
        """Return the distance of a value from the ideal: smaller is better for every metric."""
        return abs(value - self.ideal)


def values_of_draws(function: Metric | Plain, y: IntArray, p: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the value for each row of weights, which say how often each case was drawn."""
    plain = function.function if isinstance(function, Metric) else function
    if isinstance(plain, Vectorised):
        return plain.weighted(y, p, weights)
    draws = (np.repeat(np.arange(y.size), row.astype(np.int64)) for row in weights)
    return np.array([plain(y[drawn], p[drawn]) for drawn in draws], dtype=np.float64)


def checked(y_true: Any, y_prob: Any) -> tuple[IntArray, FloatArray]:
    """Return the true classes as integers and the probabilities as floats, or refuse them."""
    p = _checked_probabilities(y_prob)
    return checked_truth(y_true, n=p.shape[0], classes=p.shape[1]), p


def checked_truth(y_true: Any, *, n: int, classes: int) -> IntArray:
    """Return the class numbers of n cases, or refuse them."""
    y = np.asarray(y_true)
    if y.shape != (n,):
        raise UserError(f"The true classes have shape {y.shape} for {n} cases.", "Pass one class number for each case.")
    if y.size and y.dtype.kind not in "iub":
        raise UserError(
            f"The true classes have type {y.dtype}, not an integer type.", "Pass the index of each case's class."
        )
    if y.size and not 0 <= y.min() <= y.max() < classes:
        raise UserError(
            f"Class numbers run from {y.min()} to {y.max()}, but only 0 to {classes - 1} are known.",
            "Pass one column of probabilities for each class, in the order of the classes.",
        )
    return y.astype(np.int64)


def _checked_probabilities(y_prob: Any) -> FloatArray:
    p = np.asarray(y_prob, dtype=np.float64)
    if p.ndim != 2 or p.shape[1] < 2:
        raise UserError(
            f"The probabilities have shape {p.shape}, not one row per case and one column per class.",
            "For two classes pass the columns 1 - p and p.",
        )
    if not np.isfinite(p).all():
        count = int((~np.isfinite(p)).any(axis=1).sum())
        raise UserError(
            f"The probabilities of {count} cases are NaN or infinite.",
            "Leave out the cases that the model could not score, and report their number.",
        )
    if p.size and (p.min() < -ROUNDING or p.max() > 1 + ROUNDING or np.abs(p.sum(axis=1) - 1).max() > SUM_TOLERANCE):
        sums = p.sum(axis=1)
        raise UserError(
            f"The probabilities run from {p.min():.4g} to {p.max():.4g} and add up to {sums.min():.4g} to "
            f"{sums.max():.4g}, not to 1.",
            "Pass probabilities, not logits.",
        )
    return np.clip(p, 0.0, 1.0)


def checked_binary(y_true: Any, score: Any) -> tuple[BoolArray, FloatArray]:
    """Return which cases are positive and the score of each, or refuse them."""
    s = np.asarray(score, dtype=np.float64)
    if s.ndim != 1 or not np.isfinite(s).all():
        raise UserError(
            f"The scores have shape {s.shape} or contain NaN.",
            "Pass one number for each case: the probability of the positive class.",
        )
    return checked_truth(y_true, n=s.size, classes=2) == 1, s


def one_vs_rest(binary: Binary, y: IntArray, p: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the value of class 1 of two, else the mean over all classes; NaN if that of any class is undefined."""
    if p.shape[1] == 2:
        return binary(y == 1, p[:, 1], weights)
    return mean_over_classes(np.stack([binary(y == k, p[:, k], weights) for k in range(p.shape[1])], axis=1))


def mean_over_classes(by_class: FloatArray) -> FloatArray:
    """Return the macro average of each draw."""
    return np.asarray(by_class.mean(axis=1), dtype=np.float64)


def ratio(above: FloatArray, below: FloatArray) -> FloatArray:
    """Return the quotient, NaN where the divisor is 0."""
    out = np.full(np.broadcast_shapes(above.shape, below.shape), np.nan)
    np.divide(above, below, out=out, where=below > 0)
    return out
