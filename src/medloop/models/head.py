"""The linear head on the features of any engine: multinomial and regularised, fitted alike to learn and to serve."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

STEPS = 500
LEAST_SPREAD = 1e-3

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Features = NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True)
class Head:
    """Weights for features as they come; the standardisation is folded into them."""

    weight: FloatArray
    bias: FloatArray
    strength: float

    def logits(self, features: Features) -> FloatArray:
        """What the head says of features."""
        return np.asarray(np.asarray(features, dtype=np.float64) @ self.weight.T + self.bias)

    def probabilities(self, features: Features) -> FloatArray:
        """The softmax of the logits."""
        logits = self.logits(features)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))


class HeadLearner:
    """Fits heads of rising strength on the same views of the same cases, each from the one before."""

    def __init__(self, views: Sequence[Features], y: IntArray, *, balanced: bool = False) -> None:
        self.features = np.concatenate(views, dtype=np.float64)
        self.mean, spread = self.features.mean(axis=0), self.features.std(axis=0)
        # A feature that hardly ever moves would get a weight that says more about rounding than about the case.
        self.scale = np.maximum(spread, LEAST_SPREAD * spread.mean() + 1e-12)
        # In place: of many views of many cases, one copy is enough.
        self.features -= self.mean
        self.features /= self.scale
        self.y = np.tile(y, len(views))
        self.weights = np.full(len(self.y), 1 / len(views))
        if balanced:
            counts = np.bincount(self.y)
            self.weights *= (len(self.y) / (len(counts) * np.maximum(counts, 1)))[self.y]
        self._model: Any = None

    def fit(self, strength: float) -> Head:
        """The head for features that are not standardised."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from threadpoolctl import threadpool_limits

        if self._model is None:
            self._model = LogisticRegression(max_iter=STEPS, warm_start=True)
        self._model.set_params(C=strength)
        # One thread: sums in another order would give other last digits on another machine.
        with threadpool_limits(1), warnings.catch_warnings():
            # A strong head on separable features is still on its way after so many steps; it is judged as it is.
            warnings.simplefilter("ignore", ConvergenceWarning)
            self._model.fit(self.features, self.y, sample_weight=self.weights)
        weight, bias = _by_class(self._model)
        weight = weight / self.scale
        return Head(weight=weight, bias=bias - weight @ self.mean, strength=strength)


def _by_class(model: Any) -> tuple[FloatArray, FloatArray]:
    """One row a class; scikit-learn gives two classes one row between them."""
    weight, bias = np.asarray(model.coef_), np.asarray(model.intercept_)
    if len(model.classes_) > 2:
        return weight, bias
    return np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
