"""All metrics at once, in the positive view and class by class."""

from __future__ import annotations

from collections.abc import Sequence

from medloop.metrics import METRICS
from medloop.metrics.metric import Metric
from medloop.metrics.view import BY_CLASS, FloatArray, IntArray, has_two_views


def every_metric(truth: IntArray, shares: FloatArray, decisions: FloatArray) -> dict[str, float]:
    """Return each metric of the probabilities or the decisions, whichever it is defined for."""
    return {
        name: metric.function(truth, decisions if metric.uses == "decision" else shares)
        for name, metric in METRICS.items()
    }


def every_class_metric(
    y: IntArray, probabilities: FloatArray, decisions: FloatArray, classes: Sequence[str], positive: Sequence[str]
) -> dict[str, float]:
    """Return `class_accuracy` and so on for the single classes; nothing where the positive view has no less detail."""
    if not has_two_views(classes, positive):
        return {}
    return {f"{BY_CLASS}{name}": value for name, value in every_metric(y, probabilities, decisions).items()}


def metric_called(name: str) -> Metric:
    """Return the metric of that name, in either view."""
    return METRICS[name.removeprefix(BY_CLASS)]
