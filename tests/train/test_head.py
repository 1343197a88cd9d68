"""The head on frozen features, against scikit-learn's own pipeline."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medloop.metrics import METRICS
from medloop.train.head import STRENGTHS, HeadLearner, choose_head

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


def blobs(classes: int = 3, count: int = 150, noise: float = 2.0) -> tuple[Floats, Ints]:
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 1, (classes, 12))
    y = np.arange(count) % classes
    scales = 10.0 ** rng.integers(-1, 2, 12)
    return ((centres[y] + rng.normal(0, noise, (count, 12))) * scales + 5).astype(np.float32), y


@pytest.mark.parametrize("classes", [2, 3])
def test_the_folded_head_gives_what_scaling_and_regression_give(classes: int) -> None:
    features, y = blobs(classes)
    seen = np.arange(len(y))
    head = HeadLearner([features], y, seen).fit(0.1)
    plain = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000)).fit(features.astype(float), y)
    assert head.weight.shape == (classes, 12)
    assert np.allclose(head.probabilities(features), plain.predict_proba(features.astype(float)), atol=2e-4)


def test_the_strength_is_the_best_on_the_watched_cases() -> None:
    features, y = blobs()
    seen, watched = np.arange(100), np.arange(100, 150)
    learner = HeadLearner([features], y, seen)
    losses = [METRICS["log_loss"](y[watched], learner.fit(c).probabilities(features[watched])) for c in STRENGTHS]
    chosen = choose_head([features], y, seen, watched)
    assert chosen.strength == STRENGTHS[int(np.argmin(losses))]
    assert STRENGTHS[0] < chosen.strength < STRENGTHS[-1]


def test_the_watched_cases_do_not_move_the_weights() -> None:
    features, y = blobs()
    seen, watched = np.arange(100), np.arange(100, 150)
    other = features.copy()
    other[watched] *= 3
    first, second = (choose_head([each], y, seen, watched, strengths=[0.1]) for each in (features, other))
    assert np.array_equal(first.weight, second.weight)


def test_a_view_twice_is_the_same_as_once() -> None:
    features, y = blobs()
    seen = np.arange(len(y))
    once, twice = HeadLearner([features], y, seen).fit(0.1), HeadLearner([features, features], y, seen).fit(0.1)
    assert np.allclose(once.probabilities(features), twice.probabilities(features), atol=1e-4)


def test_balance_lifts_the_rare_class() -> None:
    features, y = blobs(2, 300)
    seen = np.concatenate([np.flatnonzero(y == 0), np.flatnonzero(y == 1)[:15]])
    plain, balanced = (HeadLearner([features], y, seen, balanced=flag).fit(0.1) for flag in (False, True))
    lifted = [float(head.probabilities(features)[:, 1].mean()) for head in (plain, balanced)]
    assert lifted[0] < 0.3
    assert 0.4 < lifted[1] < 0.6


def test_a_feature_that_never_moves_has_no_say() -> None:
    features, y = blobs()
    features[:, 0] = 7
    head = HeadLearner([features], y, np.arange(len(y))).fit(1.0)
    features[:, 0] = 7.001
    assert np.allclose(head.weight[:, 0], 0)
