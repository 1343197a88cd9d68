"""The figures of a report: every metric with its interval, on the test cases and over the folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from medloop.bundle.patients import slices_of
from medloop.bundle.predictor import Predictor, Scores
from medloop.case import Case, Row
from medloop.errors import UserError
from medloop.metrics import METRICS
from medloop.metrics.estimate import within
from medloop.metrics.folds import mean_std_interval
from medloop.metrics.intervals import intervals_for
from medloop.metrics.view import FloatArray, IntArray, one_hot, positive_view
from medloop.recipe import EvaluateSection

NOT_METRICS = ("fold", "n_train", "n")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The test cases as the bundle sees them."""

    cases: Sequence[Case]
    groups: list[str]
    y: IntArray
    scores: Scores
    truth: IntArray
    shares: FloatArray
    decisions: FloatArray
    names: tuple[str, ...]


def measure_bundle(
    predictor: Predictor, cases: Sequence[Case], groups: Sequence[str], *, files: Sequence[bytes] | None = None
) -> Measured:
    """Score the cases through the predictor, decided as it would decide in service; `files` holds their images."""
    classes = predictor.decider.classes
    strange = sorted({case.label for case in cases} - set(classes))
    if strange or not cases:
        raise UserError(
            f"test cases must carry labels of the bundle's classes: {', '.join(classes)}",
            found=", ".join(strange) or "no test cases",
            hint="evaluate the bundle on the data that it was made for",
        )
    y = np.array([classes.index(case.label) for case in cases])
    rows: list[Row] = [case.values for case in cases]
    scores = predictor.score(rows if files is None else files)
    if predictor.decider.per == "patient":
        first = [slices[0] for slices in slices_of(groups).values()]
        scores = _by_patient(predictor, scores, groups)
        cases, groups, y = [cases[row] for row in first], [groups[row] for row in first], y[first]
    positive = predictor.decider.positive
    truth, shares = positive_view(y, scores.probabilities, classes, positive)
    chosen = one_hot(scores.choices, len(classes))
    _, decisions = positive_view(y, chosen, classes, positive)
    rest = [name for name in classes if name not in positive]
    names = (" or ".join(rest), " or ".join(positive)) if positive else classes
    return Measured(
        cases=cases,
        groups=list(groups),
        y=y,
        scores=scores,
        truth=truth,
        shares=shares,
        decisions=decisions,
        names=names,
    )


def _by_patient(predictor: Predictor, scores: Scores, patients: Sequence[str]) -> Scores:
    """One answer a patient, as the bundle combines slices; the middle slice says how strange the patient is."""
    members = list(slices_of(patients).values())
    probabilities = predictor.decider.combined(scores.probabilities, patients)
    distances = predictor.decider.outliers.distances(scores.embedding)
    middle = [rows[int(np.argsort(distances[rows])[len(rows) // 2])] for rows in members]
    return Scores(
        logits=scores.logits[middle],
        embedding=scores.embedding[middle],
        probabilities=probabilities,
        choices=predictor.decider.choices(probabilities),
        complaints=[next((scores.complaints[r] for r in rows if scores.complaints[r]), None) for rows in members],
    )


def test_figures(measured: Measured, section: EvaluateSection) -> dict[str, dict[str, Any]]:
    """Every metric on the test cases, with its interval."""
    shares = {
        name: measured.decisions if metric.uses == "decision" else measured.shares for name, metric in METRICS.items()
    }
    intervals = intervals_for(shares, measured.truth, groups=measured.groups, draws=section.draws, seed=section.seed)
    return {name: asdict(interval) for name, interval in intervals.items()}


def fold_figures(cross_validation: Mapping[str, Sequence[float]]) -> dict[str, dict[str, Any]]:
    """Mean, deviation and interval over the folds."""
    figures = {}
    for name, values in cross_validation.items():
        if name in NOT_METRICS:
            continue
        interval = within(mean_std_interval([value for value in values if value is not None]), METRICS[name].bounds)
        figures[name] = {"mean": interval.value, **asdict(interval), "folds": list(values)}
    return figures


def flat(test: Mapping[str, Mapping[str, Any]], folds: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """The plain names that scores.json, the gate and MLflow use: test_recall, cv_recall_mean, cv_recall_std."""
    figures = {f"test_{name}": float(figure["value"]) for name, figure in test.items()}
    for name, figure in folds.items():
        figures[f"cv_{name}_mean"] = float(figure["mean"])
        figures[f"cv_{name}_std"] = float(figure["std"])
    return figures
