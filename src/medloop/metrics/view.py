"""The view in which a named positive class is measured, and a decision written as probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


# Before the name of a metric that is measured on the classes as they are, whichever of them count as positive.
BY_CLASS = "class_"


def has_two_views(classes: Sequence[str], positive: Sequence[str]) -> bool:
    """Whether positive or negative leaves out which of several classes a case is of."""
    return bool(positive) and len(classes) > 2


def positive_view(
    y: IntArray, probabilities: FloatArray, classes: Sequence[str], positive: Sequence[str]
) -> tuple[IntArray, FloatArray]:
    """Positive against the rest where positive classes are named, else the classes as they are."""
    if not positive:
        return y, probabilities
    is_positive = np.isin(classes, list(positive))
    share = np.clip(probabilities[:, is_positive].sum(axis=1), 0.0, 1.0)
    return is_positive[y].astype(np.int64), np.column_stack([1 - share, share])


def one_hot(choices: IntArray, count: int) -> FloatArray:
    """Decisions in the form of probabilities, so that every metric has one signature."""
    return np.eye(count)[choices]


def decided(probabilities: FloatArray) -> FloatArray:
    """The plain decision: the most probable class; at a tie of two, the positive one."""
    last_best = probabilities.shape[1] - 1 - np.argmax(probabilities[:, ::-1], axis=1)
    return one_hot(last_best, probabilities.shape[1])
