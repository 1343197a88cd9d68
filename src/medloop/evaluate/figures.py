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
from medloop.metrics import METRICS
from medloop.metrics.estimate import NAN, within
from medloop.metrics.every import metric_called
from medloop.metrics.folds import mean_std_interval
from medloop.metrics.intervals import intervals_for
from medloop.metrics.metric import BoolArray
from medloop.metrics.view import FloatArray, IntArray, one_hot, positive_view
from medloop.recipe import EvaluateSection

NOT_METRICS = ("fold", "n_train", "n")
OF_A_CLASS = ("recall", "specificity", "precision", "f1", "roc_auc", "pr_auc", "brier")
OVER_CLASSES = ("accuracy", "balanced_accuracy", "precision", "recall", "f1", "roc_auc", "pr_auc", "log_loss", "brier")

Figure = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The test cases (or patients, where these are decided) as the bundle sees and answers them."""

    cases: Sequence[Case]
    groups: list[str]
    y: IntArray
    answers: Answers
    truth: IntArray
    shares: FloatArray
    decisions: FloatArray
    names: tuple[str, ...]

    @property
    def silent(self) -> BoolArray:
        """Which of them would get no class in service."""
        return np.array([reason is not None for reason in self.answers.reasons])

    @property
    def chosen(self) -> IntArray:
        """What was decided of each, in the positive view."""
        return np.asarray(self.decisions.argmax(axis=1), dtype=np.int64)


def measure_bundle(
    predictor: Predictor, cases: Sequence[Case], groups: Sequence[str], *, files: Sequence[bytes] | None = None
) -> Measured:
    """Score the cases through the predictor, decided as it would decide in service; `files` holds their images."""
    decider = predictor.decider
    y = _numbers(cases, decider.classes)
    rows: list[Row] = [case.values for case in cases]
    scores = predictor.score(rows if files is None else files)
    # Those who look alike are tied together in `groups`, but answered one by one, as in service.
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
        names=_shown_names(decider),
    )


def _numbers(cases: Sequence[Case], classes: Sequence[str]) -> IntArray:
    strange = sorted({case.label for case in cases} - set(classes))
    if strange or not cases:
        raise UserError(
            f"test cases must carry labels of the bundle's classes: {', '.join(classes)}",
            found=", ".join(strange) or "no test cases",
            hint="evaluate the bundle on the data that it was made for",
        )
    return np.array([classes.index(case.label) for case in cases])


def _shown_names(decider: Decider) -> tuple[str, ...]:
    if not decider.positive:
        return decider.classes
    rest = [name for name in decider.classes if name not in decider.positive]
    return " or ".join(rest), " or ".join(decider.positive)


def test_figures(measured: Measured, section: EvaluateSection) -> dict[str, Figure]:
    """Every metric on the test cases, with its interval."""
    return figures_of(measured.truth, measured.shares, measured.decisions, measured.groups, section)


def figures_of(
    truth: IntArray,
    shares: FloatArray,
    decisions: FloatArray,
    groups: Sequence[str],
    section: EvaluateSection,
    *,
    names: Iterable[str] = METRICS,
) -> dict[str, Figure]:
    """The named metrics of these cases, each of what it is made for: the probabilities or the decisions."""
    shown = {name: decisions if METRICS[name].uses == "decision" else shares for name in names}
    intervals = intervals_for(shown, truth, groups=groups, draws=section.draws, seed=section.seed)
    return {name: asdict(interval) for name, interval in intervals.items()}


def class_figures(
    measured: Measured, classes: Sequence[str], section: EvaluateSection
) -> tuple[dict[str, dict[str, Figure]], dict[str, Figure]]:
    """Each class against the rest, and the means over all classes; nothing where two classes say it all."""
    if len(classes) == 2:
        return {}, {}
    shares, chosen = measured.answers.probabilities, one_hot(measured.answers.choices, len(classes))
    by_class = {}
    for number, name in enumerate(classes):
        share, decided = (np.column_stack([1 - table[:, number], table[:, number]]) for table in (shares, chosen))
        truth = (measured.y == number).astype(np.int64)
        by_class[name] = figures_of(truth, share, decided, measured.groups, section, names=OF_A_CLASS)
    # Where there is no positive view, all other figures over the classes stand among those of the test.
    names = METRICS if len(measured.names) < len(classes) else OVER_CLASSES
    return by_class, figures_of(measured.y, shares, chosen, measured.groups, section, names=names)


def fold_figures(cross_validation: Mapping[str, Sequence[float]]) -> dict[str, dict[str, Any]]:
    """Mean, deviation and interval over the folds."""
    figures = {}
    for name, values in cross_validation.items():
        if name in NOT_METRICS:
            continue
        numbers = [NAN if value is None else value for value in values]
        interval = within(mean_std_interval(numbers), metric_called(name).bounds)
        figures[name] = {"mean": interval.value, **asdict(interval), "folds": list(values)}
    return figures


def flat(test: Mapping[str, Mapping[str, Any]], folds: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """The plain names that scores.json, the gate and MLflow use: test_recall, cv_recall_mean, cv_recall_std."""
    figures = {f"test_{name}": float(figure["value"]) for name, figure in test.items()}
    for name, figure in folds.items():
        figures[f"cv_{name}_mean"] = float(figure["mean"])
        figures[f"cv_{name}_std"] = float(figure["std"])
    return figures
