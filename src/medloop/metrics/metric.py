"""What a metric is, what it accepts, and the arithmetic that all metrics share."""

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

# A float32 softmax is off by this much, and that is no fault of the caller.
ROUNDING = 1e-6
SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A function (y_true, y_prob) -> float and what a reader of its value must know."""

    function: Plain
    uses: Literal["probability", "decision"]
    better: Literal["higher", "lower", "nearest"]
    ideal: float
    says: str
    bounds: tuple[float, float] = (0.0, 1.0)
    of: Part | None = None
    weighted: Weighted | None = None

    @property
    def proportion(self) -> bool:
        """Whether the value of a binary task is a share of cases of one kind, each of them right or wrong."""
        return self.of is not None

    def __call__(self, y_true: IntArray, y_prob: FloatArray) -> float:
        """The value on these cases; nan where it is undefined."""
        return self.function(y_true, y_prob)

    def distance(self, value: float) -> float:
        """How far a value is from the ideal: smaller is better for every metric."""
        return abs(value - self.ideal)


def once(weighted: Weighted) -> Plain:
    """The metric in which every case counts once."""

    def plain(y_true: IntArray, y_prob: FloatArray) -> float:
        y, p = checked(y_true, y_prob)
        return float(weighted(y, p, np.ones((1, y.size)))[0]) if y.size else float("nan")

    return plain


def checked(y_true: Any, y_prob: Any) -> tuple[IntArray, FloatArray]:
    """The truth as whole numbers and the probabilities as floats, or why they cannot be measured."""
    p = _checked_probabilities(y_prob)
    return checked_truth(y_true, n=p.shape[0], classes=p.shape[1]), p


def checked_truth(y_true: Any, *, n: int, classes: int) -> IntArray:
    """Class numbers of n cases."""
    y = np.asarray(y_true)
    if y.shape != (n,):
        raise UserError(
            "the truth must be one class number a case", found=f"shape {y.shape} for {n} cases", hint="pass N numbers"
        )
    if y.size and y.dtype.kind not in "iub":
        raise UserError("the truth must be whole numbers", found=f"type {y.dtype}", hint="pass the index of the class")
    if y.size and not 0 <= y.min() <= y.max() < classes:
        raise UserError(
            f"a class number must be from 0 to {classes - 1}",
            found=f"numbers from {y.min()} to {y.max()}",
            hint="pass one column of probabilities for each class, in the order of the classes",
        )
    return y.astype(np.int64)


def _checked_probabilities(y_prob: Any) -> FloatArray:
    p = np.asarray(y_prob, dtype=np.float64)
    if p.ndim != 2 or p.shape[1] < 2:
        raise UserError(
            "probabilities must have one row a case and one column a class, at least two",
            found=f"shape {p.shape}",
            hint="for two classes pass the columns 1 - p and p",
        )
    if not np.isfinite(p).all():
        raise UserError(
            "probabilities must be numbers",
            found=f"{int((~np.isfinite(p)).any(axis=1).sum())} cases with NaN or infinity",
            hint="leave out the cases that the model could not answer, and count them",
        )
    if p.size and (p.min() < -ROUNDING or p.max() > 1 + ROUNDING or np.abs(p.sum(axis=1) - 1).max() > SUM_TOLERANCE):
        raise UserError(
            "probabilities must be from 0 to 1 and add up to 1 for each case",
            found=f"from {p.min():.4g} to {p.max():.4g}, sums from {p.sum(axis=1).min():.4g} "
            f"to {p.sum(axis=1).max():.4g}",
            hint="pass probabilities, not logits",
        )
    return np.clip(p, 0.0, 1.0)


def checked_binary(y_true: Any, score: Any) -> tuple[BoolArray, FloatArray]:
    """Which cases are positive, and one finite score a case."""
    s = np.asarray(score, dtype=np.float64)
    if s.ndim != 1 or not np.isfinite(s).all():
        raise UserError(
            "a score must be one number a case", found=f"shape {s.shape}, or NaN", hint="pass the positive column"
        )
    return checked_truth(y_true, n=s.size, classes=2) == 1, s


def one_vs_rest(binary: Binary, y: IntArray, p: FloatArray, weights: FloatArray) -> FloatArray:
    """Class 1 of two, else the mean over all classes: nan where one of them is undefined, since it was not measured."""
    if p.shape[1] == 2:
        return binary(y == 1, p[:, 1], weights)
    return mean_over_classes(np.stack([binary(y == k, p[:, k], weights) for k in range(p.shape[1])], axis=1))


def mean_over_classes(by_class: FloatArray) -> FloatArray:
    """The macro average of each draw."""
    return np.asarray(by_class.mean(axis=1), dtype=np.float64)


def ratio(above: FloatArray, below: FloatArray) -> FloatArray:
    """The quotient, nan where there is nothing to divide by."""
    out = np.full(np.broadcast_shapes(above.shape, below.shape), np.nan)
    np.divide(above, below, out=out, where=below > 0)
    return out
