"""What the figures must be read beside: always giving the most frequent class, and how often decisions are right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from medloop.evaluate.figures import Measured
from medloop.metrics.proportions import wilson_clustered
from medloop.metrics.view import IntArray


def majority(measured: Measured, classes: Sequence[str]) -> dict[str, Any]:
    """The accuracy of always deciding for the most frequent class; class by class too where several count as one."""
    found = _most_frequent(measured, measured.truth, measured.names)
    return {
        **found,
        "of_classes": _most_frequent(measured, measured.y, classes) if _differ(measured, classes) else None,
    }


def _differ(measured: Measured, classes: Sequence[str]) -> bool:
    return len(classes) != len(measured.names)


def _most_frequent(measured: Measured, truth: IntArray, names: Sequence[str]) -> dict[str, Any]:
    best = int(np.bincount(truth, minlength=len(names)).argmax())
    return {"class": names[best], "accuracy": asdict(wilson_clustered(truth == best, np.array(measured.groups)))}


def predictive(measured: Measured) -> dict[str, Any] | None:
    """How often a positive and a negative decision is right on the test cases as they are; None without positives."""
    if len(measured.names) != 2:
        return None
    right, groups = measured.chosen == measured.truth, np.array(measured.groups)
    ppv, npv = (
        asdict(wilson_clustered(right[measured.chosen == side], groups[measured.chosen == side])) for side in (1, 0)
    )
    positives = int((measured.truth == 1).sum())
    return {
        "prevalence": positives / len(measured.truth),
        "positives": positives,
        "n": len(measured.truth),
        "ppv": ppv,
        "npv": npv,
    }
