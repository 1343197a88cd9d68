"""The head on frozen features, against scikit-learn's own pipeline."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medloop.models.head import Features, HeadLearner

Ints = NDArray[np.int64]


def blobs(classes: int = 3, count: int = 150, noise: float = 2.0) -> tuple[Features, Ints]:
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 1, (classes, 12))
    y = np.arange(count) % classes
    scales = 10.0 ** rng.integers(-1, 2, 12)
    return ((centres[y] + rng.normal(0, noise, (count, 12))) * scales + 5).astype(np.float32), y


@pytest.mark.parametrize("classes", [2, 3])
def test_the_head_agrees_with_scaling_and_regression(classes: int) -> None:
    features, y = blobs(classes)
    head = HeadLearner([features], y).fit(0.1)
    plain = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000)).fit(features.astype(float), y)
    assert head.weight.shape == (classes, 12)
    assert np.allclose(head.probabilities(features), plain.predict_proba(features.astype(float)), atol=2e-4)


def test_a_view_twice_is_the_same_as_once() -> None:
    features, y = blobs()
    once, twice = (HeadLearner([features] * count, y).fit(0.1) for count in (1, 2))
    assert np.allclose(once.probabilities(features), twice.probabilities(features), atol=1e-4)


def test_balance_lifts_the_rare_class() -> None:
    features, y = blobs(2, 300)
    seen = np.concatenate([np.flatnonzero(y == 0), np.flatnonzero(y == 1)[:15]])
    plain, balanced = (HeadLearner([features[seen]], y[seen], balanced=flag).fit(0.1) for flag in (False, True))
    lifted = [float(head.probabilities(features)[:, 1].mean()) for head in (plain, balanced)]
    assert lifted[0] < 0.3
    assert 0.4 < lifted[1] < 0.6


def test_a_feature_that_never_moves_has_no_say() -> None:
    features, y = blobs()
    features[:, 0] = 7
    head = HeadLearner([features], y).fit(1.0)
    assert np.allclose(head.weight[:, 0], 0)


def test_a_head_separates_what_can_be_separated_however_it_is_scaled() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], 50)
    features = rng.normal(size=(150, 8)) * 50 + 300
    features[:, 3] += y * 400.0
    assert np.mean(HeadLearner([features], y).fit(1.0).logits(features).argmax(axis=1) == y) > 0.95
