"""The head that serves best: its strength is chosen on validation cases."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medloop.metrics import METRICS
from medloop.metrics.view import IntArray
from medloop.models.head import Features, Head, HeadLearner
from medloop.train.image_learning import Rows

STRENGTHS = tuple(float(10**exponent) for exponent in np.arange(-5, 1.5, 0.5))
PATIENCE = 2


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
    learner = HeadLearner([view[seen] for view in views], y[seen], balanced=balanced)
    best, least, worse = None, np.inf, 0
    for strength in strengths or STRENGTHS:
        head = learner.fit(strength)
        loss = METRICS["log_loss"](y[watched], head.probabilities(views[0][watched]))
        best, least, worse = (head, loss, 0) if best is None or loss < least else (best, least, worse + 1)
        if worse == PATIENCE:
            break
    assert best is not None  # noqa: S101 - there is a strength
    return best
