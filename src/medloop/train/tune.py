"""Tuning: trials over the ranges that the recipe declares, judged without the test cases."""

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
    complete,
    counted,
    first_number,
    has_room,
    importances,
    is_surplus,
    open_study,
    suggest,
    wait_for_others,
)

Values = Mapping[str, Any]
Row = Mapping[str, float]
Report = Callable[[Row], None]
# Gives the metric for some values, and reports epochs on the way if it has any.
Judge = Callable[[Values, Report], float]


class Hopeless(Exception):
    """Values with which nothing can be learned; the other trials go on."""


class _Surplus(Exception):
    """Other processes began the last trials at the same moment."""


class TrialLog(Protocol):
    """Who is told of a trial while it runs."""

    def log(self, row: Row) -> None:
        """Some figures, those of an epoch with its number."""

    def end(self, *, state: str) -> None:
        """That it ended: complete, pruned or failed."""


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """The best values with their figure, every trial, and each range's share in what makes trials differ."""

    best: dict[str, Any]
    figure: float
    trials: pd.DataFrame
    importances: dict[str, float]


OpenLog = Callable[[int, Values], TrialLog]


def tune(judge: Judge, section: TuneSection, *, storage: str, name: str, open_log: OpenLog) -> Tuned:
    """Run what is left of the study's trials; several processes may do so at once."""
    with open_study(section, storage=storage, name=name) as study:
        objective = _objective(study, judge, section, open_log)
        while (ended := len(_ended(study))) < section.trials:
            if has_room(study, section.trials):
                study.optimize(objective, n_trials=1, catch=(_Surplus,))
                _say_best(study, section)
            else:
                _say(f"tune: waiting for {section.trials - ended} trial(s) of other processes")
                wait_for_others(study)
        return _result(study, section)


def table_judge(learning: TableLearning, model: ModelSection, metric: str, *, seed: int) -> Judge:
    """Cross-validation on the training cases."""

    def judge(values: Values, _report: Report) -> float:
        result = cross_validate(learning, model.name, {**model.params, **values}, seed=seed, what="trial")
        return float(result.history[metric].mean())

    return judge


def _objective(study: Any, judge: Judge, section: TuneSection, open_log: OpenLog) -> Callable[[Any], float]:
    """What Optuna makes small: how far the metric is from its ideal."""

    def objective(trial: Any) -> float:
        if is_surplus(study, trial.number, section.trials):
            raise _Surplus
        values = {name: suggest(trial, name, space) for name, space in section.space.items()}
        with _followed(open_log(first_number(study, trial.number), values)) as log:
            found = judge(values, lambda row: _report(trial, section.metric, row, log))
            if not math.isfinite(found):
                raise UserError(
                    "tune.metric must be defined on the cases that judge",
                    found=f"{section.metric} is undefined",
                    hint="choose another metric, or see that every class has cases there",
                )
            log.log({f"tune_{section.metric}": found})
        trial.set_user_attr("figure", found)
        return METRICS[section.metric].distance(found)

    return objective


@contextmanager
def _followed(log: TrialLog) -> Iterator[TrialLog]:
    """Tell the log how the trial ended, whatever that was."""
    from optuna import TrialPruned

    state = "failed"
    try:
        yield log
        state = "complete"
    except (TrialPruned, Hopeless) as end:
        state = "pruned"
        raise TrialPruned(str(end)) from end
    finally:
        log.end(state=state)


def _report(trial: Any, metric: str, row: Row, log: TrialLog) -> None:
    """Hand an epoch on, and give the trial up where others were better by then."""
    from optuna import TrialPruned

    log.log(row)
    trial.report(METRICS[metric].distance(row[metric]), int(row["epoch"]))
    if trial.should_prune():
        trial.set_user_attr("figure", row[metric])
        raise TrialPruned


def _ended(study: Any) -> list[Any]:
    return [trial for trial in counted(study) if trial.state.is_finished()]


def _answers(study: Any) -> list[Any]:
    """The trials that count as answers, the best first."""
    return sorted(complete(study), key=lambda trial: trial.value)


def _say_best(study: Any, section: TuneSection) -> None:
    for best in _answers(study)[:1]:
        figure = best.user_attrs["figure"]
        _say(f"tune: {len(_ended(study))} of {section.trials} trials, best {section.metric} {figure:.4f}")


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _result(study: Any, section: TuneSection) -> Tuned:
    ended, answers = _ended(study), _answers(study)
    if not answers:
        raise UserError(
            "one trial at least must learn something",
            found=f"all {len(ended)} were given up",
            hint="narrow tune.space, first of all learning_rate",
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
    best = answers[0]
    return Tuned(
        best=dict(best.params),
        figure=best.user_attrs["figure"],
        trials=pd.DataFrame(rows),
        importances=importances(study),
    )
