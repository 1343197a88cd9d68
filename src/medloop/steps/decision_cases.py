"""What the cases that decisions will be fitted on are too few or too busy for, said before anything is trained."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medloop.steps.images import has_images
from medloop.steps.project import Project
from medloop.storage import read_parquet

if TYPE_CHECKING:
    import pandas as pd

    from medloop.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class DecisionCases:
    """The rows of the split that temperature, threshold and conformal quantiles will be fitted on."""

    rows: pd.DataFrame
    said: str
    choose_epoch: bool = False


def warn_of_decision_cases(project: Project) -> None:
    """Every warning, a line each, on standard error."""
    for text in decision_warnings(project):
        sys.stderr.write(f"warning: {text}\n")
    sys.stderr.flush()


def decision_warnings(project: Project) -> list[str]:
    """In sentences, each with what to do."""
    splits = read_parquet(project.work / "splits.parquet")
    labels = project.cases(("case_id", "label"))
    table = splits.merge(labels, on="case_id")
    found = decision_cases(table, project.recipe, images=has_images(project))
    return [*_of_epoch(found), *_of_classes(found, project.recipe), *_of_threshold(found, project.recipe)]


def decision_cases(table: pd.DataFrame, recipe: Recipe, *, images: bool) -> DecisionCases:
    """The same cases that the export will take, by the parts of the split and the mode of training."""
    part = table["part"]
    if not images:
        return DecisionCases(rows=table[part == "train"], said="out-of-fold training cases")
    if (part == "calib").any():
        return DecisionCases(rows=table[part == "calib"], said="calib cases")
    if recipe.train.mode == "head":
        return DecisionCases(rows=table[part.isin(("train", "val"))], said="out-of-fold training and validation cases")
    if recipe.train.cross_validate:
        return DecisionCases(rows=table[part == "train"], said="out-of-fold training cases")
    if (part == "val").any():
        return DecisionCases(rows=table[part == "val"], said="validation cases", choose_epoch=True)
    first = table[(part == "train") & (table["fold"] == 0)]
    return DecisionCases(rows=first, said="cases of the first fold", choose_epoch=True)


def _of_epoch(found: DecisionCases) -> Iterator[str]:
    if found.choose_epoch:
        yield (
            f"the {len(found.rows)} {found.said} choose the epoch, the temperature, the threshold and the conformal "
            "sets, so what is promised on them will not quite be kept. Set `split.calib: 0.1` for cases of their own."
        )


def _of_classes(found: DecisionCases, recipe: Recipe) -> Iterator[str]:
    from medloop.bundle.calibrate import min_patients

    alpha = recipe.export.conformal_alpha
    least = min_patients(alpha)
    if found.rows["group"].nunique() < least:
        yield (
            f"there are only {_counted(found.rows)} among the {found.said}, and with fewer than {least} no class can "
            f"ever be ruled out (export.conformal_alpha {alpha:g}): the service will give no class. Add cases, or "
            "raise export.conformal_alpha."
        )
        return
    for label in recipe.data.classes or sorted(found.rows["label"].unique()):
        rows = found.rows[found.rows["label"] == label]
        if (count := rows["group"].nunique()) < least:
            yield (
                f"class {label} has only {_counted(rows)} among the {found.said}; a conformal quantile of its own "
                f"takes {least} (export.conformal_alpha {alpha:g}). It will share that of all classes, with a "
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
    """5 cases, or 20 cases of 5 patients"""
    cases, patients = len(rows), rows["group"].nunique()
    return f"{cases} case{'s' * (cases != 1)}" + ("" if cases == patients else f" of {patients} patients")
