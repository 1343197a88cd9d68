"""Warnings, before anything is trained, where the cases that decisions are fitted on are too few."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from medloop.steps.kinds import kind_of
from medloop.steps.kinds.kind import DecisionCases
from medloop.steps.project import Project
from medloop.storage import read_parquet
from medloop.wording import plural

if TYPE_CHECKING:
    from medloop.recipe import Recipe


def print_decision_warnings(project: Project) -> None:
    """Print every warning on a line of standard error."""
    for text in decision_warnings(project):
        sys.stderr.write(f"warning: {text}\n")
    sys.stderr.flush()


def decision_warnings(project: Project) -> list[str]:
    """Return the warnings; each says what to do."""
    splits = read_parquet(project.work / "splits.parquet")
    labels = project.cases(("case_id", "label"))
    table = splits.merge(labels, on="case_id")
    found = kind_of(project).decision_cases(table, project.recipe)
    return [*_of_epoch(found), *_of_classes(found, project.recipe), *_of_threshold(found, project.recipe)]


def _of_epoch(found: DecisionCases) -> Iterator[str]:
    if found.choose_epoch:
        yield (
            f"the {len(found.rows)} {found.name} choose the epoch, the temperature, the threshold and the conformal "
            "sets, so that guarantees will hold only approximately. Set `split.calib: 0.1` to reserve cases for this."
        )


def _of_classes(found: DecisionCases, recipe: Recipe) -> Iterator[str]:
    from medloop.bundle.calibrate import min_patients

    alpha = recipe.export.conformal_alpha
    needed = min_patients(alpha)
    if found.rows["group"].nunique() < needed:
        yield (
            f"there are only {_counted(found.rows)} among the {found.name}, and with fewer than {needed} no class can "
            f"ever be ruled out (export.conformal_alpha {alpha:g}): the service will give no class. Add cases, or "
            "raise export.conformal_alpha."
        )
        return
    for label in recipe.data.classes or sorted(found.rows["label"].unique()):
        rows = found.rows[found.rows["label"] == label]
        if (count := rows["group"].nunique()) < needed:
            yield (
                f"class {label} has only {_counted(rows)} among the {found.name}; a conformal quantile of its own "
                f"takes {needed} (export.conformal_alpha {alpha:g}). It will share that of all classes, with a "
                f"coverage guaranteed to {count / (count + 1):.0%} only. Add cases of {label}."
            )


def _of_threshold(found: DecisionCases, recipe: Recipe) -> Iterator[str]:
    from medloop.bundle.operating_point import NOTABLE_CHANCE, cases_to_be_sure, read_rule

    rule, positive = read_rule(recipe.export.threshold), found.rows["label"].isin(recipe.data.positive)
    if not recipe.data.positive or rule.figure not in ("sensitivity", "specificity") or rule.asked is None:
        return
    side = "positive" if rule.figure == "sensitivity" else "negative"
    rows = found.rows[positive if side == "positive" else ~positive]
    count = rows["group"].nunique()
    if rule.confidence is not None:
        if count < (needed := cases_to_be_sure(rule.asked, rule.confidence)):
            yield (
                f"`{recipe.export.threshold}` takes {needed} {side} cases to choose on and there are {_counted(rows)}: "
                f"the threshold will be one that gets none of them wrong, which is {1 - rule.asked**count:.0%} sure."
            )
        return
    limit, chance = _chance_below(rule.asked, count)
    if chance >= NOTABLE_CHANCE:
        yield (
            f"`{recipe.export.threshold}` will be chosen on {_counted(rows)} of the {side} classes: the true "
            f"{rule.figure} then ends below {limit:.2f} in {chance:.0%} of trainings. Add such cases, or write "
            f"`{recipe.export.threshold} with 90% confidence`."
        )


def _chance_below(asked: float, count: int) -> tuple[float, float]:
    import numpy as np

    from medloop.bundle.operating_point import SLACK, confidence_in

    reached = np.ceil(asked * count - 1e-9) / max(count, 1)
    return asked - SLACK, 1 - float(confidence_in(reached, count, max(asked - SLACK, 0.0)))


def _counted(rows: Any) -> str:
    """Return `5 cases`, or `20 cases of 5 patients`."""
    cases, patients = len(rows), rows["group"].nunique()
    return plural(cases, "case") + ("" if cases == patients else f" of {patients} patients")
