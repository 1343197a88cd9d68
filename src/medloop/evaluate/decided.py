"""What a bundle said of the test cases, in a form in which two bundles can be laid side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from medloop.bundle.predictor import Predictor
from medloop.case import Case
from medloop.evaluate.case_scores import SUBGROUP_PREFIX
from medloop.evaluate.figures import measure_bundle
from medloop.metrics import METRICS
from medloop.metrics.metric import BoolArray
from medloop.metrics.view import FloatArray, IntArray, one_hot, positive_view
from medloop.storage import read_parquet


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is decided: the classes in their order, the positive ones, and whether of cases or patients."""

    classes: tuple[str, ...]
    positive: tuple[str, ...]
    per: str = "case"
    rule: str = "mean"

    @classmethod
    def of(cls, meta: Mapping[str, Any]) -> Task:
        """The task of a bundle."""
        decide = meta["decide"]
        return cls(
            classes=tuple(meta["classes"]),
            positive=tuple(meta["positive"]),
            per=decide["per"],
            rule=decide.get("rule", "mean"),
        )

    def asks_the_same(self, other: Task) -> bool:
        """Whether both tell the same classes apart, in whatever order these stand."""
        return set(self.classes) == set(other.classes) and set(self.positive) == set(other.positive)


@dataclass(frozen=True, kw_only=True)
class Decided:
    """The truth, the probabilities and the decisions, in the order of the cases' ids."""

    case_ids: tuple[str, ...]
    groups: IntArray
    truth: IntArray
    shares: FloatArray
    decisions: FloatArray
    # The same with every class by itself, where several classes count as positive or several as negative.
    by_class: Decided | None = None

    def measured_by(self, metric: str) -> FloatArray:
        """What the metric is measured on."""
        return self.decisions if METRICS[metric].uses == "decision" else self.shares

    def only(self, mask: BoolArray) -> Decided:
        """These cases alone."""
        return Decided(
            case_ids=tuple(name for name, kept in zip(self.case_ids, mask, strict=True) if kept),
            groups=self.groups[mask],
            truth=self.truth[mask],
            shares=self.shares[mask],
            decisions=self.decisions[mask],
            by_class=self.by_class and self.by_class.only(mask),
        )


Subgroups = Mapping[str, Sequence[str | None]]


def decided_in_report(report: Path, task: Task) -> tuple[Decided, Subgroups]:
    """What the report's bundle said of each case, and by column the subgroup of each case."""
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
    return _decided(ids, groups, (y, probabilities, choices), task), subgroups


def decided_by(
    predictor: Predictor, task: Task, cases: Sequence[Case], groups: Sequence[str], *, files: Sequence[bytes] | None
) -> Decided:
    """What this predictor says of the cases, in the classes' order of the task, and of patients if that is the task."""
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
    return _decided(
        tuple(ids[row] for row in order), numbers[order], (y[order], probabilities[order], choices[order]), task
    )


def _decided(
    ids: tuple[str, ...], groups: IntArray, answers: tuple[IntArray, FloatArray, IntArray], task: Task
) -> Decided:
    """In the positive view, and beside it in that of the single classes where the two differ."""
    y, probabilities, choices = answers
    chosen = one_hot(choices, len(task.classes))
    truth, shares = positive_view(y, probabilities, task.classes, task.positive)
    _, decisions = positive_view(y, chosen, task.classes, task.positive)
    whole = Decided(case_ids=ids, groups=groups, truth=truth, shares=shares, decisions=decisions)
    if not task.positive or len(task.classes) == 2:
        return whole
    return replace(
        whole, by_class=Decided(case_ids=ids, groups=groups, truth=y, shares=probabilities, decisions=chosen)
    )
