"""Tuning: trials over the ranges of the recipe, judged without the test cases."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import pandas as pd

from medloop.errors import UserError
from medloop.metrics import METRICS
from medloop.recipe import ModelSection, TuneSection
from medloop.train.crossval import cross_validate
from medloop.train.learning import TableLearning
from medloop.train.study import (
    first_number,
    has_room,
    importances,
    is_surplus,
    list_complete,
    list_trials,
    open_study,
    suggest,
    wait_for_others,
)

Values = Mapping[str, Any]
Row = Mapping[str, float]
Report = Callable[[Row], None]
# Returns the metric for some values, and reports the epochs of a training on the way.
Judge = Callable[[Values, Report], float]


class Untrainable(Exception):
    """Values with which the training diverges; the other trials go on."""


class _Surplus(Exception):
    """Other processes began the last trials at the same time."""


class TrialLog(Protocol):
    """A log of one trial."""

    def log(self, row: Row) -> None:
        """Record some figures, those of an epoch with its number."""

    def end(self, *, state: str) -> None:
        """Record how the trial ended: complete, pruned or failed."""


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """The best values with their figure, every trial, and the importance of each range."""

    best: dict[str, Any]
    figure: float
    trials: pd.DataFrame
    importances: dict[str, float]


OpenLog = Callable[[int, Values], TrialLog]


def tune(judge: Judge, section: TuneSection, *, storage: str, name: str, open_log: OpenLog) -> Tuned:
    """Run the remaining trials of the study; several processes may share it."""
    with open_study(section, storage=storage, name=name) as study:
        objective = _objective(study, judge, section, open_log)
        while (ended := len(_ended(study))) < section.trials:
            if has_room(study, section.trials):
                study.optimize(objective, n_trials=1, catch=(_Surplus,))
                _report_best(study, section)
            else:
                _print(f"tune: waiting for {section.trials - ended} trial(s) in other processes")
                wait_for_others(study)
        return _result(study, section)


def table_judge(learning: TableLearning, model: ModelSection, metric: str, *, seed: int) -> Judge:
    """Return a judge that cross-validates on the training cases."""

    def judge(values: Values, _report: Report) -> float:
        result = cross_validate(learning, model.name, {**model.params, **values}, seed=seed, what="trial")
        return float(result.history[metric].mean())

    return judge


def _objective(study: Any, judge: Judge, section: TuneSection, open_log: OpenLog) -> Callable[[Any], float]:
    """Return what Optuna minimises: the distance of the metric from its ideal."""

    def objective(trial: Any) -> float:
        if is_surplus(study, trial.number, section.trials):
            raise _Surplus
        values = {name: suggest(trial, name, space) for name, space in section.space.items()}
        with _log_end(open_log(first_number(study, trial.number), values)) as log:
            figure = judge(values, lambda row: _report(trial, section.metric, row, log))
            if not math.isfinite(figure):
                raise UserError(
                    f"tune.metric {section.metric} is undefined on the validation cases.",
                    "Choose another metric, or make sure that every class has cases there.",
                )
            log.log({f"tune_{section.metric}": figure})
        trial.set_user_attr("figure", figure)
        return METRICS[section.metric].distance(figure)

    return objective


@contextmanager
def _log_end(log: TrialLog) -> Iterator[TrialLog]:
    """Record in the log how the trial ended."""
    from optuna import TrialPruned

    state = "failed"
    try:
        yield log
        state = "complete"
    except (TrialPruned, Untrainable) as end:
        state = "pruned"
        raise TrialPruned(str(end)) from end
    finally:
        log.end(state=state)


def _report(trial: Any, metric: str, row: Row, log: TrialLog) -> None:
    """Log an epoch, and prune the trial if others were better by then."""
    from optuna import TrialPruned

    log.log(row)
    trial.report(METRICS[metric].distance(row[metric]), int(row["epoch"]))
    if trial.should_prune():
        trial.set_user_attr("figure", row[metric])
        raise TrialPruned


def _ended(study: Any) -> list[Any]:
    return [trial for trial in list_trials(study) if trial.state.is_finished()]


def _ranked(study: Any) -> list[Any]:
    """Return the complete trials, the best first."""
    return sorted(list_complete(study), key=lambda trial: trial.value)


def _report_best(study: Any, section: TuneSection) -> None:
    for best in _ranked(study)[:1]:
        figure = best.user_attrs["figure"]
        _print(f"tune: {len(_ended(study))} of {section.trials} trials, best {section.metric} {figure:.4f}")


def _print(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _result(study: Any, section: TuneSection) -> Tuned:
    ended, ranked = _ended(study), _ranked(study)
    if not ranked:
        raise UserError(
            f"All {len(ended)} trials were pruned or diverged.",
            "Narrow tune.space, learning_rate first.",
        )
    rows = [
        {
            "trial": trial.number,
            "state": trial.state.name.lower(),
            section.metric: trial.user_attrs.get("figure"),
            **trial.params,
            "epochs": len(trial.intermediate_values),
            "seconds": round(trial.duration.total_seconds(), 3),
        }
        for trial in ended
    ]
    best = ranked[0]
    return Tuned(
        best=dict(best.params),
        figure=best.user_attrs["figure"],
        trials=pd.DataFrame(rows),
        importances=importances(study),
    )
