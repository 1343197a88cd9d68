"""The figures of a report: every metric with its interval, on the test cases and over the folds."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from medloop.bundle.decide import Answers, Decider
from medloop.bundle.patients import sickest
from medloop.bundle.predictor import Predictor
from medloop.case import Case, Row
from medloop.errors import UserError
from medloop.metrics import MAIN_METRICS, METRICS
from medloop.metrics.every import metric_called
from medloop.metrics.intervals.bootstrap import Resampling
from medloop.metrics.intervals.by_metric import intervals_for
from medloop.metrics.intervals.estimate import NAN, within
from medloop.metrics.intervals.folds import mean_std_interval
from medloop.metrics.metric import BoolArray
from medloop.metrics.view import FloatArray, IntArray, one_hot, positive_view
from medloop.recipe import EvaluateSection

NOT_METRICS = ("fold", "n_train", "n")
ONE_CLASS_METRICS = ("recall", "specificity", "precision", "f1", "roc_auc", "pr_auc", "brier")

Figure = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The test cases (or patients, if each patient gets one result) with the bundle's results."""

    cases: Sequence[Case]
    groups: list[str]
    y: IntArray
    answers: Answers
    truth: IntArray
    shares: FloatArray
    decisions: FloatArray
    names: tuple[str, ...]

    @property
    def abstained(self) -> BoolArray:
        """Whether the service would abstain, for each case."""
        return np.array([reason is not None for reason in self.answers.reasons])

    @property
    def chosen(self) -> IntArray:
        """The decision on each case, in the positive view."""
        return np.asarray(self.decisions.argmax(axis=1), dtype=np.int64)


def measure_bundle(
    predictor: Predictor, cases: Sequence[Case], groups: Sequence[str], *, files: Sequence[bytes] | None = None
) -> Measured:
    """Score the cases and decide them as the service would; `files` holds their images."""
    decider = predictor.decider
    y = _class_numbers(cases, decider.classes)
    rows: list[Row] = [case.values for case in cases]
    scores = predictor.score(rows if files is None else files)
    # Similar cases share a group, but each patient gets its own result, as in service.
    patients: Sequence[Hashable] = [case.group_id or case.patient_id or case.case_id for case in cases]
    if decider.per != "patient":
        patients = range(len(cases))
    answers = decider.answers(scores.probabilities, scores.embedding, scores.complaints, patients)
    is_positive = np.isin(decider.classes, list(decider.positive))
    y = np.array([sickest(y[members], is_positive) for members in answers.members])
    first = [min(members, key=lambda row: cases[row].case_id) for members in answers.members]
    truth, shares = positive_view(y, answers.probabilities, decider.classes, decider.positive)
    chosen = one_hot(answers.choices, len(decider.classes))
    _, decisions = positive_view(y, chosen, decider.classes, decider.positive)
    return Measured(
        cases=[cases[row] for row in first],
        groups=[groups[row] for row in first],
        y=y,
        answers=answers,
        truth=truth,
        shares=shares,
        decisions=decisions,
        names=_class_names(decider),
    )


def _class_numbers(cases: Sequence[Case], classes: Sequence[str]) -> IntArray:
    if not cases:
        raise UserError("There are no test cases.", "Set split.test in params.yaml above 0 and run `medloop split`.")
    unknown = sorted({case.label for case in cases} - set(classes))
    if unknown:
        raise UserError(
            f"Test cases have labels that the bundle does not know: {', '.join(unknown)}. "
            f"Its classes are {', '.join(classes)}.",
            "Evaluate the bundle on the data that it was trained for.",
        )
    return np.array([classes.index(case.label) for case in cases])


def _class_names(decider: Decider) -> tuple[str, ...]:
    if not decider.positive:
        return decider.classes
    rest = [name for name in decider.classes if name not in decider.positive]
    return " or ".join(rest), " or ".join(decider.positive)


def test_figures(measured: Measured, section: EvaluateSection) -> dict[str, Figure]:
    """Return every metric on the test cases, with its interval."""
    how = resampling(measured.groups, section)
    return figures_of(measured.truth, measured.shares, measured.decisions, how)


def resampling(groups: Sequence[str], section: EvaluateSection) -> Resampling:
    """Return how the intervals of these cases are drawn."""
    return Resampling(groups=groups, draws=section.draws, seed=section.seed)


def figures_of(
    truth: IntArray, shares: FloatArray, decisions: FloatArray, how: Resampling, *, names: Iterable[str] = METRICS
) -> dict[str, Figure]:
    """Return the named metrics with their intervals, each of the probabilities or of the decisions."""
    inputs = {name: decisions if METRICS[name].uses == "decision" else shares for name in names}
    intervals = intervals_for(inputs, truth, how)
    return {name: asdict(interval) for name, interval in intervals.items()}


def class_figures(
    measured: Measured, classes: Sequence[str], section: EvaluateSection
) -> tuple[dict[str, dict[str, Figure]], dict[str, Figure]]:
    """Return the figures of each class against the rest, and those over all classes; nothing for two classes."""
    if len(classes) == 2:
        return {}, {}
    shares, chosen = measured.answers.probabilities, one_hot(measured.answers.choices, len(classes))
    how, by_class = resampling(measured.groups, section), {}
    for number, name in enumerate(classes):
        share, decided = (np.column_stack([1 - table[:, number], table[:, number]]) for table in (shares, chosen))
        truth = (measured.y == number).astype(np.int64)
        by_class[name] = figures_of(truth, share, decided, how, names=ONE_CLASS_METRICS)
    # Without a positive view the test figures are over all classes already.
    names = tuple(METRICS) if len(measured.names) < len(classes) else MAIN_METRICS
    return by_class, figures_of(measured.y, shares, chosen, how, names=names)


def fold_figures(cross_validation: Mapping[str, Sequence[float]]) -> dict[str, dict[str, Any]]:
    """Return mean, standard deviation and interval over the folds."""
    figures = {}
    for name, values in cross_validation.items():
        if name in NOT_METRICS:
            continue
        numbers = [NAN if value is None else value for value in values]
        interval = within(mean_std_interval(numbers), metric_called(name).bounds)
        figures[name] = {"mean": interval.value, **asdict(interval), "folds": list(values)}
    return figures


def flat_scores(test: Mapping[str, Mapping[str, Any]], folds: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return the figures under the names of scores.json, the gate and MLflow: test_recall, cv_recall_mean."""
    figures = {f"test_{name}": float(figure["value"]) for name, figure in test.items()}
    for name, figure in folds.items():
        figures[f"cv_{name}_mean"] = float(figure["mean"])
        figures[f"cv_{name}_std"] = float(figure["std"])
    return figures
