"""A backbone among those that are compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from medloop.metrics.view import IntArray
from medloop.models import hyperparameters
from medloop.recipe import ModelSection, TrainSection
from medloop.train.compare import Candidate
from medloop.train.image_learning import ImageLearning
from medloop.train.learn_images import count_weights, learn_turns


def image_candidate(
    learning: ImageLearning, model: ModelSection, section: TrainSection, *, name: str, cache: Path, root: Path
) -> Candidate:
    """A backbone; all folds of all repeats share its features where these are not learned."""
    params = hyperparameters(model.name, model.params)
    weights = count_weights(learning, model.name, params)

    def folds(fold: IntArray) -> pd.DataFrame:
        repeat = replace(learning, fold=fold)
        return learn_turns(
            repeat, model.name, params, section, list(repeat.fold_turns()), cache=cache, root=root
        ).history

    says = f"{weights / 1e6:.1f} million weights, from {params['weights']}"
    return Candidate(name=name, says=says, folds=folds)
