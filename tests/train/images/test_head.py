"""The strength of the head is chosen on cases that its weights do not see."""

from __future__ import annotations

import numpy as np

from medloop.metrics import METRICS
from medloop.models.head import HeadLearner
from medloop.train.images.head import STRENGTHS, choose_head
from tests.models.test_head import blobs

SEEN, WATCHED = np.arange(100), np.arange(100, 150)


def test_the_strength_is_the_best_on_the_watched_cases() -> None:
    features, y = blobs()
    learner = HeadLearner([features[SEEN]], y[SEEN])
    losses = [METRICS["log_loss"](y[WATCHED], learner.fit(c).probabilities(features[WATCHED])) for c in STRENGTHS]
    chosen = choose_head([features], y, SEEN, WATCHED)
    assert chosen.strength == STRENGTHS[int(np.argmin(losses))]
    assert STRENGTHS[0] < chosen.strength < STRENGTHS[-1]


def test_the_watched_cases_do_not_move_the_weights() -> None:
    features, y = blobs()
    other = features.copy()
    other[WATCHED] *= 3
    first, second = (choose_head([each], y, SEEN, WATCHED, strengths=[0.1]) for each in (features, other))
    assert np.array_equal(first.weight, second.weight)
