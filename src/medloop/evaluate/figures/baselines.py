"""Baselines on the same test cases: the most frequent class, and a model that learned nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from medloop.bundle.decide import Decider
from medloop.errors import UserError
from medloop.evaluate.figures.scores import Measured, figures_of, resampling
from medloop.metrics import MAIN_METRICS, METRICS
from medloop.metrics.intervals.bootstrap import paired_bootstrap
from medloop.metrics.intervals.proportions import wilson_clustered
from medloop.metrics.view import FloatArray, IntArray, decided, positive_view
from medloop.recipe import EvaluateSection


@dataclass(frozen=True, kw_only=True)
class BaselineModel:
    """A model to compare with, such as an untrained network; one row of class probabilities for each test case."""

    name: str
    description: str
    probabilities: FloatArray


def compare_with_baseline(
    baseline: BaselineModel, measured: Measured, decider: Decider, section: EvaluateSection
) -> dict[str, Any]:
    """Return the baseline's figures and the gain in AUC of the bundle over it, on the same draws of the same cases."""
    cases = sum(len(rows) for rows in measured.answers.members)
    if baseline.probabilities.shape != (cases, len(decider.classes)):
        raise UserError(
            f"The {baseline.name} has probabilities of shape {baseline.probabilities.shape} for {cases} test cases of "
            f"{len(decider.classes)} classes.",
            "Run `medloop evaluate` again.",
        )
    table = np.array([baseline.probabilities[rows].mean(axis=0) for rows in measured.answers.members])
    _, shares = positive_view(measured.y, table, decider.classes, decider.positive)
    how = resampling(measured.groups, section)
    gain = paired_bootstrap(METRICS["roc_auc"], measured.truth, measured.shares, shares, how)
    return {
        "name": baseline.name,
        "says": baseline.description,
        "figures": figures_of(measured.truth, shares, decided(shares), how, names=MAIN_METRICS),
        "gain": {"roc_auc": asdict(gain)},
    }


def majority_class(measured: Measured, classes: Sequence[str]) -> dict[str, Any]:
    """Return the accuracy of always deciding for the most frequent class, in the positive view and by class."""
    of_classes = None
    if len(classes) != len(measured.names):
        of_classes = _most_frequent(measured, measured.y, classes)
    return {**_most_frequent(measured, measured.truth, measured.names), "of_classes": of_classes}


def _most_frequent(measured: Measured, truth: IntArray, names: Sequence[str]) -> dict[str, Any]:
    best = int(np.bincount(truth, minlength=len(names)).argmax())
    return {"class": names[best], "accuracy": asdict(wilson_clustered(truth == best, np.array(measured.groups)))}
