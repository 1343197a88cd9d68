"""Comparison of models on the same repeated folds, with intervals that allow for the overlap of the folds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from medloop.metrics import MAIN_METRICS
from medloop.metrics.every import metric_called
from medloop.metrics.intervals.estimate import Interval, within
from medloop.metrics.intervals.folds import repeated_cv_interval
from medloop.metrics.view import BY_CLASS, IntArray
from medloop.progress import track
from medloop.train.crossval import cross_validate
from medloop.train.learning import TableLearning


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A model to compare; `folds` returns a row of figures for each fold of an assignment."""

    name: str
    says: str
    folds: Callable[[IntArray], pd.DataFrame]


@dataclass(frozen=True, kw_only=True)
class Compared:
    """The figures of one model over all repeats and folds."""

    name: str
    says: str
    figures: dict[str, Interval]
    folds: dict[str, list[float]]
    seconds: float


def table_candidate(
    learning: TableLearning, name: str, params: Mapping[str, Any], *, says: str, seed: int
) -> Candidate:
    """Return a table estimator to compare."""

    def folds(fold: IntArray) -> pd.DataFrame:
        return cross_validate(replace(learning, fold=fold), name, params, seed=seed).history

    return Candidate(name=name, says=says, folds=folds)


def compare_models(candidates: Sequence[Candidate], repeats: Sequence[IntArray]) -> list[Compared]:
    """Return the models, the best AUC first; `repeats` holds one assignment of folds each."""
    compared = [_compare(one, repeats) for one in track(candidates, total=len(candidates), what="models")]
    return sorted(compared, key=lambda one: -one.figures["roc_auc"].value)


def _compare(candidate: Candidate, repeats: Sequence[IntArray]) -> Compared:
    started = time.perf_counter()
    histories = [candidate.folds(fold) for fold in repeats]
    names = [name for name in (*MAIN_METRICS, *(f"{BY_CLASS}{one}" for one in MAIN_METRICS)) if name in histories[0]]
    folds = {name: [float(v) for history in histories for v in history[name]] for name in names}
    held_out = 1 / len(histories[0])
    return Compared(
        name=candidate.name,
        says=candidate.says,
        figures={
            metric: within(repeated_cv_interval(values, held_out), metric_called(metric).bounds)
            for metric, values in folds.items()
        },
        folds=folds,
        seconds=(time.perf_counter() - started) / len(repeats),
    )
