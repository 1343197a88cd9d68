"""Image models as candidates: a trial of tuning, and a backbone in a comparison."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from medloop.metrics.view import IntArray
from medloop.models import hyperparameters
from medloop.recipe import ModelSection, TrainSection
from medloop.train.compare import Candidate
from medloop.train.images.examples import ImageLearning
from medloop.train.images.learn import count_weights, learn_turns
from medloop.train.images.loop import Diverged
from medloop.train.space import with_tuned
from medloop.train.tune import Judge, Report, Untrainable, Values


def image_judge(
    learning: ImageLearning, model: ModelSection, section: TrainSection, metric: str, *, cache: Path, root: Path
) -> Judge:
    """Return the judge of a trial: one training, by the metric of the epoch or head that would be exported."""
    turn = learning.final_turn()

    def judge(values: Values, report: Report) -> float:
        params, changed = with_tuned(model, section, values, where="tune.space")
        try:
            trained = learn_turns(
                learning, model.name, params, changed, [turn], cache=cache, root=root, on_epoch=report
            )
        except Diverged as error:
            raise Untrainable(error.problem) from error
        return float(trained.history.sort_values("val_loss")[metric].iloc[0])

    return judge


def image_candidate(
    learning: ImageLearning, model: ModelSection, section: TrainSection, *, name: str, cache: Path, root: Path
) -> Candidate:
    """Return a backbone to compare; all folds of all repeats share its features where these are not trained."""
    params = hyperparameters(model.name, model.params)
    weights = count_weights(learning, model.name, params)

    def folds(fold: IntArray) -> pd.DataFrame:
        repeat = replace(learning, fold=fold)
        turns = list(repeat.fold_turns())
        return learn_turns(repeat, model.name, params, section, turns, cache=cache, root=root).history

    says = f"{weights / 1e6:.1f} million weights, from {params.get('weights', 'none')}"
    return Candidate(name=name, says=says, folds=folds)
