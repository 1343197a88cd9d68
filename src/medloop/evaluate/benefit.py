"""What the decisions are worth in use: predictive values at a prevalence, and the net benefit of acting on them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from medloop.evaluate.figures import Measured
from medloop.metrics.bootstrap import bootstrap_means
from medloop.metrics.curves import net_benefit, net_benefit_of_cases
from medloop.metrics.proportions import effective_trials, predictive_values
from medloop.recipe import EvaluateSection

THRESHOLDS = np.arange(1, 100) / 100
TOLD = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)


def at_prevalence(measured: Measured, section: EvaluateSection) -> dict[str, Any] | None:
    """PPV and NPV where the recipe's share of the cases is positive; None where it names none or no class is."""
    if section.prevalence is None or len(measured.names) != 2:
        return None
    right, groups = measured.chosen == measured.truth, np.array(measured.groups)
    found, spared = (effective_trials(right[measured.truth == side], groups[measured.truth == side]) for side in (1, 0))
    ppv, npv = predictive_values(found, spared, section.prevalence, seed=section.seed)
    return {"prevalence": section.prevalence, "ppv": asdict(ppv), "npv": asdict(npv)}


def benefit_rows(measured: Measured, section: EvaluateSection) -> list[dict[str, Any]]:
    """Net benefit at some thresholds of action, with its interval and that of its gain over treating all or none."""
    if len(measured.names) != 2:
        return []
    share, at = measured.shares[:, 1], np.array(TOLD)
    of_model = net_benefit_of_cases(measured.truth, share, at)
    of_all = net_benefit_of_cases(measured.truth, np.ones_like(share), at)
    best_plain = np.maximum(of_all.mean(axis=0), 0.0) == of_all.mean(axis=0)
    gains = of_model - np.where(best_plain, of_all, 0.0)
    intervals = bootstrap_means(
        np.column_stack([of_model, gains]), groups=measured.groups, draws=section.draws, seed=section.seed
    )
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
    """The decision curve: the model's net benefit with its interval, and that of treating all."""
    if len(measured.names) != 2 or len(set(measured.truth.tolist())) < 2:
        return []
    share = measured.shares[:, 1]
    curve = net_benefit(measured.truth, share, THRESHOLDS)
    of_cases = net_benefit_of_cases(measured.truth, share, THRESHOLDS)
    intervals = bootstrap_means(of_cases, groups=measured.groups, draws=section.draws, seed=section.seed)
    return [
        {"threshold": float(t), "model": float(m), "lower": i.lower, "upper": i.upper, "treat_all": float(a)}
        for t, m, i, a in zip(curve.threshold, curve.model, intervals, curve.treat_all, strict=True)
    ]
