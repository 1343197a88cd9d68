"""Tuning: Optuna over the ranges that the recipe declares, judged on the training folds and never on test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from medloop.errors import UnknownName, UserError
from medloop.metrics import METRICS
from medloop.models import hyperparameters
from medloop.recipe import ModelSection, SearchRange, TuneSection
from medloop.train.crossval import cross_validate
from medloop.train.learning import TableLearning


def tune_table(
    learning: TableLearning, model: ModelSection, section: TuneSection, *, seed: int, study: Path
) -> tuple[dict[str, Any], pd.DataFrame]:
    """The best hyperparameters found and every trial; a study that was interrupted goes on."""
    if section.metric not in METRICS:
        raise UnknownName("tune.metric", section.metric, METRICS)
    known = hyperparameters(model.name, model.params)
    for name in section.space:
        if name not in known:
            raise UnknownName("a hyperparameter", name, known, where="tune.space")
    if section.trials == 0:
        return {}, pd.DataFrame()
    if not section.space:
        raise UserError(
            "tuning needs ranges",
            found="tune.space is empty",
            hint="add `tune.space: {C: {low: 0.01, high: 100, log: true}}`",
        )

    def objective(trial: Any) -> float:
        chosen = {name: suggest(trial, name, space) for name, space in section.space.items()}
        result = cross_validate(
            learning, model.name, {**model.params, **chosen}, seed=seed, what=f"trial {trial.number}"
        )
        return METRICS[section.metric].distance(float(result.history[section.metric].mean()))

    return _search(objective, section, study)


def suggest(trial: Any, name: str, space: SearchRange) -> Any:
    """One value from the range."""
    if space.choices:
        return trial.suggest_categorical(name, space.choices)
    if space.whole:
        return trial.suggest_int(name, int(space.low or 0), int(space.high or 0), log=space.log)
    return trial.suggest_float(name, space.low, space.high, log=space.log)


def _search(objective: Callable[[Any], float], section: TuneSection, path: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path.parent.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        study_name="tune",
        storage=f"sqlite:///{path}",
        load_if_exists=True,
        direction="minimize",
        sampler=optuna.samplers.TPESampler(seed=section.seed),
    )
    finished = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.COMPLETE]
    study.optimize(objective, n_trials=max(0, section.trials - len(finished)))
    trials = pd.DataFrame(
        [
            {"trial": t.number, f"{section.metric}_from_ideal": t.value, **t.params}
            for t in study.trials
            if t.value is not None
        ]
    )
    return dict(study.best_params), trials
