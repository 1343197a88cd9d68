"""The benefit of the decisions in use: predictive values, and the net benefit of acting on them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from medloop.evaluate.figures.scores import Measured, resampling
from medloop.metrics.curves import net_benefit, net_benefit_of_cases
from medloop.metrics.intervals.bootstrap import bootstrap_means
from medloop.metrics.intervals.proportions import effective_trials, predictive_values, wilson_clustered
from medloop.recipe import EvaluateSection

CURVE_THRESHOLDS = np.arange(1, 100) / 100
TABLE_THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)


def observed_predictive_values(measured: Measured) -> dict[str, Any] | None:
    """Return PPV and NPV among the test cases; None without a positive class."""
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


def predictive_values_at_prevalence(measured: Measured, section: EvaluateSection) -> dict[str, Any] | None:
    """Return PPV and NPV at the recipe's prevalence; None without a prevalence or a positive class."""
    if section.prevalence is None or len(measured.names) != 2:
        return None
    right, groups = measured.chosen == measured.truth, np.array(measured.groups)
    sensitivity, specificity = (
        effective_trials(right[measured.truth == side], groups[measured.truth == side]) for side in (1, 0)
    )
    ppv, npv = predictive_values(sensitivity, specificity, section.prevalence, seed=section.seed)
    return {"prevalence": section.prevalence, "ppv": asdict(ppv), "npv": asdict(npv)}


def benefit_rows(measured: Measured, section: EvaluateSection) -> list[dict[str, Any]]:
    """Return the net benefit at some thresholds, and its gain over the better of treating all and treating none."""
    if len(measured.names) != 2:
        return []
    share, at = measured.shares[:, 1], np.array(TABLE_THRESHOLDS)
    of_model = net_benefit_of_cases(measured.truth, share, at)
    of_all = net_benefit_of_cases(measured.truth, np.ones_like(share), at)
    best_plain = np.maximum(of_all.mean(axis=0), 0.0) == of_all.mean(axis=0)
    gains = of_model - np.where(best_plain, of_all, 0.0)
    intervals = bootstrap_means(np.column_stack([of_model, gains]), resampling(measured.groups, section))
    return [
        {
            "threshold": float(cut),
            "model": asdict(intervals[number]),
            "gain": asdict(intervals[len(at) + number]),
            "treat_all": float(of_all[:, number].mean()),
        }
        for number, cut in enumerate(at)
    ]


def benefit_points(measured: Measured, section: EvaluateSection) -> list[dict[str, Any]]:
    """Return the model's net benefit with its interval at every threshold, and that of treating all."""
    if len(measured.names) != 2 or len(set(measured.truth.tolist())) < 2:
        return []
    share = measured.shares[:, 1]
    curve = net_benefit(measured.truth, share, CURVE_THRESHOLDS)
    of_cases = net_benefit_of_cases(measured.truth, share, CURVE_THRESHOLDS)
    intervals = bootstrap_means(of_cases, resampling(measured.groups, section))
    return [
        {"threshold": float(t), "model": float(m), "lower": i.lower, "upper": i.upper, "treat_all": float(a)}
        for t, m, i, a in zip(curve.threshold, curve.model, intervals, curve.treat_all, strict=True)
    ]
