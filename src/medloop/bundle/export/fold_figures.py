"""The figures of each fold, decided by the rule that the service would use if it were fitted on the other folds."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medloop.bundle.calibrate import Decided, fit_rule, to_decide
from medloop.bundle.decide import FloatArray, IntArray, choose
from medloop.metrics.every import every_class_metric, every_metric
from medloop.metrics.view import one_hot, positive_view, softmax
from medloop.recipe import ExportSection

FINAL = -1
SERVED_RULE = "served"
# Without folds, the held-out cases are split into this many parts, each decided by the threshold of the others.
PARTS = 5

Figures = dict[str, list[float | None]]


@dataclass(frozen=True, kw_only=True)
class FoldScores:
    """Cases with their fold and the logits of a model that was not trained on it."""

    logits: FloatArray
    y: IntArray
    fold: IntArray
    groups: Sequence[Hashable]


def served_figures(scores: FoldScores, section: ExportSection, task: Mapping[str, Any]) -> Figures:
    """Return for each metric one value per fold, with the rule fitted on the out-of-fold cases of the other folds."""
    folds = sorted(set(scores.fold.tolist()))
    if len(folds) > 1:
        rows = [
            {
                "fold": number,
                "n_train": int((scores.fold != number).sum()),
                "n": int((scores.fold == number).sum()),
                **_decided_by_others(scores, scores.fold == number, section, task),
            }
            for number in folds
        ]
    else:
        rows = [{"fold": FINAL, "n": len(scores.y), **_decide_by_parts(scores, section, task)}]
    return {name: [_finite_or_none(row[name]) for row in rows] for name in rows[0]}


def measure_fold(
    decided: Decided, choices: IntArray, classes: Sequence[str], positive: Sequence[str]
) -> dict[str, float]:
    """Return every metric of these cases or patients, on probabilities or decisions as the metric requires."""
    chosen = one_hot(choices, len(classes))
    truth, shares = positive_view(decided.y, decided.probabilities, classes, positive)
    _, decisions = positive_view(decided.y, chosen, classes, positive)
    by_class = every_class_metric(decided.y, decided.probabilities, chosen, classes, positive)
    return every_metric(truth, shares, decisions) | by_class


def _decided_by_others(
    scores: FoldScores, inside: Any, section: ExportSection, task: Mapping[str, Any]
) -> dict[str, float]:
    decided, choices = _decide(scores, inside, section, task)
    return measure_fold(decided, choices, task["classes"], task["positive"])


def _decide(
    scores: FoldScores, inside: Any, section: ExportSection, task: Mapping[str, Any]
) -> tuple[Decided, IntArray]:
    """Decide the cases inside, with temperature and threshold fitted on those outside."""
    groups = np.asarray(scores.groups)
    outside = ~inside
    temperature, _, threshold = fit_rule(
        scores.logits[outside], scores.y[outside], section, task, groups=groups[outside].tolist()
    )
    probabilities = softmax(scores.logits[inside], temperature)
    decided = to_decide(probabilities, scores.y[inside], section, task, groups=groups[inside].tolist())
    return decided, choose(decided.probabilities, np.isin(task["classes"], task["positive"]), threshold)


def _decide_by_parts(scores: FoldScores, section: ExportSection, task: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics over all cases of the one part that was held out."""
    part_of = _parts(scores)
    parts = [_decide(scores, part_of == number, section, task) for number in sorted(set(part_of.tolist()))]
    whole = Decided(
        probabilities=np.concatenate([decided.probabilities for decided, _ in parts]),
        y=np.concatenate([decided.y for decided, _ in parts]),
        groups=[name for decided, _ in parts for name in decided.groups],
    )
    return measure_fold(whole, np.concatenate([choices for _, choices in parts]), task["classes"], task["positive"])


def _parts(scores: FoldScores) -> IntArray:
    """Return the part of each case: whole patients in turn, by class."""
    part_of: dict[Hashable, int] = {}
    seen: dict[int, int] = {}
    for group, label in zip(scores.groups, scores.y.tolist(), strict=True):
        if group not in part_of:
            part_of[group] = seen.get(label, 0) % PARTS
            seen[label] = seen.get(label, 0) + 1
    return np.array([part_of[group] for group in scores.groups])


def _finite_or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None
