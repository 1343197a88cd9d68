"""The linear head on the features of the engine and precision that will serve."""

from __future__ import annotations

import warnings

import numpy as np

from medloop.bundle.decide import FloatArray, IntArray

STEPS = 500
Head = tuple[FloatArray, FloatArray]


def refit_head(features: FloatArray, y: IntArray, C: float, *, balanced: bool = False) -> Head:
    """Weight and bias of a multinomial logistic regression on standardised features, for features as they come."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    features = np.asarray(features, dtype=np.float64)
    mean, spread = features.mean(axis=0), features.std(axis=0)
    # A feature that hardly ever moves would get a weight that says more about rounding than about the case.
    scale = np.maximum(spread, 1e-3 * spread.mean() + 1e-12)
    model = LogisticRegression(C=C, max_iter=STEPS, class_weight="balanced" if balanced else None)
    # One thread: sums in another order would give other last digits on another machine.
    with threadpool_limits(1), warnings.catch_warnings():
        # The strength was chosen for a head that stops after as many steps.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit((features - mean) / scale, y)
    weight, bias = np.asarray(model.coef_), np.asarray(model.intercept_)
    if len(model.classes_) == 2:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    weight = weight / scale
    return weight, bias - weight @ mean


def head_logits(features: FloatArray, head: Head) -> FloatArray:
    """What the head says of features."""
    weight, bias = head
    return np.asarray(np.asarray(features, dtype=np.float64) @ weight.T + bias)
