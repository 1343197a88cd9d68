"""The linear head on frozen features: multinomial, regularised, its strength chosen on validation cases."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medloop.metrics import METRICS
from medloop.metrics.view import FloatArray, IntArray
from medloop.train.features import Features
from medloop.train.image_learning import Rows

STRENGTHS = tuple(float(10**exponent) for exponent in np.arange(-5, 1.5, 0.5))
PATIENCE = 2


@dataclass(frozen=True, kw_only=True)
class Head:
    """Weights for features as they come; the standardisation is folded into them."""

    weight: FloatArray
    bias: FloatArray
    strength: float

    def probabilities(self, features: Features) -> FloatArray:
        """The softmax of the logits."""
        logits = features.astype(np.float64) @ self.weight.T + self.bias
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def choose_head(
    views: Sequence[Features],
    y: IntArray,
    seen: Rows,
    watched: Rows,
    *,
    balanced: bool = False,
    strengths: Sequence[float] | None = None,
) -> Head:
    """The head whose strength gives the watched cases, as they are, the least log loss."""
    learner = HeadLearner(views, y, seen, balanced=balanced)
    best, least, worse = None, np.inf, 0
    for strength in strengths or STRENGTHS:
        head = learner.fit(strength)
        loss = METRICS["log_loss"](y[watched], head.probabilities(views[0][watched]))
        best, least, worse = (head, loss, 0) if best is None or loss < least else (best, least, worse + 1)
        if worse == PATIENCE:
            break
    assert best is not None  # noqa: S101 - there is a strength
    return best


class HeadLearner:
    """Fits heads of rising strength on the same features, each from the one before."""

    def __init__(self, views: Sequence[Features], y: IntArray, seen: Rows, *, balanced: bool = False) -> None:
        features = np.concatenate([view[seen] for view in views]).astype(np.float64)
        spread = features.std(axis=0)
        self.mean = features.mean(axis=0)
        # A feature that hardly ever moves would get a weight that says more about rounding than about the case.
        self.scale = np.maximum(spread, 1e-4 * spread.mean() + 1e-12)
        self.features = (features - self.mean) / self.scale
        self.y = np.tile(y[seen], len(views))
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
            self._model = LogisticRegression(max_iter=500, warm_start=True)
        self._model.set_params(C=strength)
        # One thread: sums in another order would give other last digits on another machine.
        with threadpool_limits(1), warnings.catch_warnings():
            # A strong head on separable features is still on its way after 500 steps, and val decides on what it is.
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
