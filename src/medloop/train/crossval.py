"""Cross-validation of table models: figures of every fold, and out-of-fold probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from medloop.metrics.view import FloatArray
from medloop.models.pipeline import table_pipeline
from medloop.progress import track
from medloop.train.learning import TableLearning, measure


@dataclass(frozen=True)
class CrossValidated:
    """One row of figures for each fold, and the out-of-fold probabilities of every training case."""

    history: pd.DataFrame
    probabilities: FloatArray


def cross_validate(
    learning: TableLearning, name: str, params: Mapping[str, Any], *, seed: int, what: str = "folds"
) -> CrossValidated:
    """Fit on all folds but one and measure on that one, for each fold."""
    probabilities = np.full((len(learning.y), len(learning.classes)), np.nan)
    history = []
    folds = list(learning.folds())
    for number, (seen, held) in enumerate(track(folds, total=len(folds), what=what)):
        pipeline = fit(learning, name, params, mask=seen, seed=seed)
        probabilities[held] = pipeline.predict_proba(learning.frame[held])
        figures = measure(learning.y[held], probabilities[held], learning.classes, learning.positive)
        history.append({"fold": number, "n_train": int(seen.sum()), "n": int(held.sum()), **figures})
    return CrossValidated(pd.DataFrame(history), probabilities)


def fit(learning: TableLearning, name: str, params: Mapping[str, Any], *, seed: int, mask: Any = None) -> Any:
    """Return the pipeline fitted on the masked cases, or on all."""
    pipeline = table_pipeline(name, params, kinds=learning.kinds, seed=seed)
    chosen = slice(None) if mask is None else mask
    # One thread: sums in another order would differ in their last digits on another machine.
    with threadpool_limits(1):
        return pipeline.fit(learning.frame[chosen], learning.y[chosen])
