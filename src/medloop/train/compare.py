"""Models side by side: the same repeated folds for each, with intervals that know the folds overlap."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from medloop.metrics import METRICS
from medloop.metrics.estimate import Interval, within
from medloop.metrics.folds import repeated_cv_interval
from medloop.metrics.view import IntArray
from medloop.progress import track
from medloop.train.crossval import cross_validate
from medloop.train.learning import TableLearning

SHOWN = ("roc_auc", "accuracy", "recall", "specificity", "f1", "brier", "log_loss")


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One model's figures over all repeats and folds."""

    name: str
    params: dict[str, Any]
    figures: dict[str, Interval]
    folds: dict[str, list[float]]
    seconds: float


def compare_models(
    learning: TableLearning, models: Sequence[tuple[str, dict[str, Any]]], repeats: Sequence[IntArray], *, seed: int
) -> list[Compared]:
    """The models, the best AUC first; `repeats` holds one assignment of folds each."""
    compared = [
        _compare(learning, name, params, repeats, seed=seed)
        for name, params in track(models, total=len(models), what="models")
    ]
    return sorted(compared, key=lambda one: -one.figures["roc_auc"].value)


def _compare(
    learning: TableLearning, name: str, params: dict[str, Any], repeats: Sequence[IntArray], *, seed: int
) -> Compared:
    started = time.perf_counter()
    histories = [cross_validate(replace(learning, fold=fold), name, params, seed=seed).history for fold in repeats]
    folds = {metric: [float(v) for history in histories for v in history[metric]] for metric in SHOWN}
    held_out = 1 / len(histories[0])
    return Compared(
        name=name,
        params=params,
        figures={
            metric: within(repeated_cv_interval(values, held_out), METRICS[metric].bounds)
            for metric, values in folds.items()
        },
        folds=folds,
        seconds=(time.perf_counter() - started) / len(repeats),
    )
