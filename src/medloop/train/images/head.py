"""The linear head: the strength of its regularisation is chosen on validation cases."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medloop.metrics import METRICS
from medloop.metrics.view import IntArray
from medloop.models.head import Features, Head, HeadLearner
from medloop.recipe import TrainSection
from medloop.train.images.examples import ImageLearning, Rows, Turn

STRENGTHS = tuple(float(10**exponent) for exponent in np.arange(-5, 1.5, 0.5))
PATIENCE = 2


def fit_head(views: Sequence[Features], learning: ImageLearning, turn: Turn, section: TrainSection) -> Head:
    """Return the head of one turn; a strength that the recipe sets is not chosen."""
    fixed = None if section.head_c is None else (section.head_c,)
    balanced = section.balance != "none"
    return choose_head(views, learning.y, turn.seen, turn.watched, balanced=balanced, strengths=fixed)


def choose_head(
    views: Sequence[Features],
    y: IntArray,
    seen: Rows,
    watched: Rows,
    *,
    balanced: bool = False,
    strengths: Sequence[float] | None = None,
) -> Head:
    """Return the head whose strength has the lowest log loss on the watched cases, unchanged by augmentation."""
    learner = HeadLearner([view[seen] for view in views], y[seen], balanced=balanced)
    best, lowest, worse = None, np.inf, 0
    for strength in strengths or STRENGTHS:
        head = learner.fit(strength)
        loss = METRICS["log_loss"](y[watched], head.probabilities(views[0][watched]))
        best, lowest, worse = (head, loss, 0) if best is None or loss < lowest else (best, lowest, worse + 1)
        if worse == PATIENCE:
            break
    assert best is not None  # noqa: S101 - there is a strength
    return best
