"""The predictions of a bundle on the test cases, in a form in which two bundles can be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from medloop.bundle.predictor import Predictor
from medloop.case import Case
from medloop.evaluate.figures.case_scores import SUBGROUP_PREFIX
from medloop.evaluate.figures.scores import measure_bundle
from medloop.metrics import METRICS
from medloop.metrics.metric import BoolArray
from medloop.metrics.view import FloatArray, IntArray, one_hot, positive_view
from medloop.storage import read_parquet


@dataclass(frozen=True, kw_only=True)
class Task:
    """The classification task: the classes in their order, the positive ones, and the unit of analysis."""

    classes: tuple[str, ...]
    positive: tuple[str, ...]
    per: str = "case"
    rule: str = "mean"

    @classmethod
    def of(cls, meta: Mapping[str, Any]) -> Task:
        """Return the task of a bundle."""
        decide = meta["decide"]
        return cls(
            classes=tuple(meta["classes"]),
            positive=tuple(meta["positive"]),
            per=decide["per"],
            rule=decide.get("rule", "mean"),
        )

    def has_same_classes(self, other: Task) -> bool:
        """Return whether both have the same classes and positive classes, in any order."""
        return set(self.classes) == set(other.classes) and set(self.positive) == set(other.positive)


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """The true classes, probabilities and decisions, in the order of the case ids."""

    case_ids: tuple[str, ...]
    groups: IntArray
    truth: IntArray
    shares: FloatArray
    decisions: FloatArray
    # The same for the single classes, where several classes count as positive or as negative.
    by_class: Predictions | None = None

    def input_of(self, metric: str) -> FloatArray:
        """Return the input of the metric: the decisions or the probabilities."""
        return self.decisions if METRICS[metric].uses == "decision" else self.shares

    def subset(self, mask: BoolArray) -> Predictions:
        """Return the selected cases."""
        return Predictions(
            case_ids=tuple(name for name, kept in zip(self.case_ids, mask, strict=True) if kept),
            groups=self.groups[mask],
            truth=self.truth[mask],
            shares=self.shares[mask],
            decisions=self.decisions[mask],
            by_class=self.by_class and self.by_class.subset(mask),
        )


Subgroups = Mapping[str, Sequence[str | None]]


def read_predictions(report: Path, task: Task) -> tuple[Predictions, Subgroups]:
    """Return the predictions in a report and, by column, the subgroup of each case."""
    import pandas as pd

    table = read_parquet(report / "cases.parquet").sort_values("case_id", kind="stable")
    y, choices = (np.array([task.classes.index(name) for name in table[column]]) for column in ("label", "chosen"))
    subgroups = {
        str(name).removeprefix(SUBGROUP_PREFIX): [None if pd.isna(value) else str(value) for value in table[name]]
        for name in table
        if str(name).startswith(SUBGROUP_PREFIX)
    }
    probabilities = table[[f"p_{number}" for number in range(len(task.classes))]].to_numpy(np.float64)
    ids, groups = tuple(table["case_id"].astype(str)), table["group"].to_numpy(np.int64)
    return _predictions(ids, groups, (y, probabilities, choices), task), subgroups


def predict_cases(
    predictor: Predictor, task: Task, cases: Sequence[Case], groups: Sequence[str], *, files: Sequence[bytes] | None
) -> Predictions:
    """Predict the cases, with the order of classes and the unit of analysis of the task."""
    own = Task.of(predictor.meta)
    if own.per != task.per:
        predictor.decider = replace(predictor.decider, per=task.per, rule=task.rule)
    measured = measure_bundle(predictor, cases, groups, files=files)
    place = np.array([task.classes.index(name) for name in own.classes])
    probabilities = np.zeros_like(measured.answers.probabilities)
    probabilities[:, place] = measured.answers.probabilities
    ids = [case.case_id for case in measured.cases]
    order = np.argsort(ids, kind="stable")
    _, numbers = np.unique(measured.groups, return_inverse=True)
    y, choices = place[measured.y], place[measured.answers.choices]
    return _predictions(
        tuple(ids[row] for row in order), numbers[order], (y[order], probabilities[order], choices[order]), task
    )


def _predictions(
    ids: tuple[str, ...], groups: IntArray, results: tuple[IntArray, FloatArray, IntArray], task: Task
) -> Predictions:
    """Return the predictions in the positive view, with those of the single classes where the two differ."""
    y, probabilities, choices = results
    chosen = one_hot(choices, len(task.classes))
    truth, shares = positive_view(y, probabilities, task.classes, task.positive)
    _, decisions = positive_view(y, chosen, task.classes, task.positive)
    whole = Predictions(case_ids=ids, groups=groups, truth=truth, shares=shares, decisions=decisions)
    if not task.positive or len(task.classes) == 2:
        return whole
    return replace(
        whole, by_class=Predictions(case_ids=ids, groups=groups, truth=y, shares=probabilities, decisions=chosen)
    )
