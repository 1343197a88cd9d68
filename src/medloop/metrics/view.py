"""Forms of predictions: probabilities, decisions as one-hot rows, and the view of positive against negative."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

# The prefix of a metric that is measured on the single classes, whichever of them count as positive.
BY_CLASS = "class_"


def softmax(logits: FloatArray, temperature: float = 1.0) -> FloatArray:
    """Return the probabilities at a temperature."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def has_two_views(classes: Sequence[str], positive: Sequence[str]) -> bool:
    """Return whether the classes hold more than positive or negative."""
    return bool(positive) and len(classes) > 2


def positive_view(
    y: IntArray, probabilities: FloatArray, classes: Sequence[str], positive: Sequence[str]
) -> tuple[IntArray, FloatArray]:
    """Return the positive classes against the rest; without positive classes, the classes unchanged."""
    if not positive:
        return y, probabilities
    is_positive = np.isin(classes, list(positive))
    share = np.clip(probabilities[:, is_positive].sum(axis=1), 0.0, 1.0)
    return is_positive[y].astype(np.int64), np.column_stack([1 - share, share])


def one_hot(choices: IntArray, count: int) -> FloatArray:
    """Return decisions in the form of probabilities, so that all metrics have one signature."""
    return np.eye(count)[choices]


def decided(probabilities: FloatArray) -> FloatArray:
    """Return the most probable class as a one-hot row; at a tie of two, the positive one."""
    last_best = probabilities.shape[1] - 1 - np.argmax(probabilities[:, ::-1], axis=1)
    return one_hot(last_best, probabilities.shape[1])
