"""The linear head on the features of a backbone: multinomial logistic regression, the same in training and export."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloop.metrics.view import FloatArray, IntArray, softmax

MAX_STEPS = 500
# As a share of the mean standard deviation of the features.
MIN_SPREAD = 1e-3

Features = NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True)
class Head:
    """Weights for features that are not standardised; the standardisation is part of them."""

    weight: FloatArray
    bias: FloatArray
    strength: float

    def logits(self, features: Features) -> FloatArray:
        """Return the logits of features."""
        return np.asarray(np.asarray(features, dtype=np.float64) @ self.weight.T + self.bias)

    def probabilities(self, features: Features) -> FloatArray:
        """Return the probabilities of features."""
        return softmax(self.logits(features))


class HeadLearner:
    """Fits heads of rising strength on the same cases and views, each starting from the one before."""

    def __init__(self, views: Sequence[Features], y: IntArray, *, balanced: bool = False) -> None:
        self.features = np.concatenate(views, dtype=np.float64)
        self.mean, spread = self.features.mean(axis=0), self.features.std(axis=0)
        # A feature that hardly varies would get a weight that reflects rounding errors.
        self.scale = np.maximum(spread, MIN_SPREAD * spread.mean() + 1e-12)
        # In place, since many views of many cases take much memory.
        self.features -= self.mean
        self.features /= self.scale
        self.y = np.tile(y, len(views))
        self.weights = np.full(len(self.y), 1 / len(views))
        if balanced:
            counts = np.bincount(self.y)
            self.weights *= (len(self.y) / (len(counts) * np.maximum(counts, 1)))[self.y]
        self._model: Any = None

    def fit(self, strength: float) -> Head:
        """Return the head of this strength."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from threadpoolctl import threadpool_limits

        if self._model is None:
            self._model = LogisticRegression(max_iter=MAX_STEPS, warm_start=True)
        self._model.set_params(C=strength)
        # One thread: sums in another order would differ in their last digits on another machine.
        with threadpool_limits(1), warnings.catch_warnings():
            # On separable features a strong head does not converge in so many steps; it is good enough all the same.
            warnings.simplefilter("ignore", ConvergenceWarning)
            self._model.fit(self.features, self.y, sample_weight=self.weights)
        weight, bias = _by_class(self._model)
        weight = weight / self.scale
        return Head(weight=weight, bias=bias - weight @ self.mean, strength=strength)


def _by_class(model: Any) -> tuple[FloatArray, FloatArray]:
    """Return one row for each class; scikit-learn has one row for two classes."""
    weight, bias = np.asarray(model.coef_), np.asarray(model.intercept_)
    if len(model.classes_) > 2:
        return weight, bias
    return np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
