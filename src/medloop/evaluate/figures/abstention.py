"""Abstentions: their share, the accuracy on the other cases, and the coverage of the conformal sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from medloop.bundle.decide import Decider
from medloop.evaluate.figures.scores import Measured, resampling
from medloop.metrics.curves import risk_coverage
from medloop.metrics.intervals.bootstrap import bootstrap_means
from medloop.metrics.intervals.by_metric import MIN_CASES
from medloop.metrics.intervals.proportions import wilson_clustered
from medloop.metrics.view import FloatArray
from medloop.recipe import EvaluateSection

# The shares of cases with a result for which the risk is tabulated, the most confident first.
COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)


def abstention(measured: Measured, classes: Sequence[str]) -> dict[str, Any]:
    """Return how often the service would abstain, why, and its accuracy on the other cases."""
    abstained, sets = measured.abstained, measured.answers.sets
    right, groups = _is_correct(measured), np.array(measured.groups)
    covered = sets[np.arange(len(measured.y)), measured.y]
    reasons = [reason.partition(":")[0] for reason in measured.answers.reasons if reason]
    return {
        "n": int(abstained.sum()),
        "share": float(abstained.mean()),
        "accuracy_of_the_rest": float(right[~abstained].mean()) if (~abstained).any() else None,
        "conformal_coverage": {
            name: float(covered[measured.y == i].mean()) for i, name in enumerate(classes) if (measured.y == i).any()
        },
        "conformal_set_size": float(sets.sum(axis=1).mean()),
        "share_interval": asdict(wilson_clustered(abstained, groups)),
        "rest_interval": asdict(wilson_clustered(right[~abstained], groups[~abstained])),
        "silent_interval": asdict(wilson_clustered(right[abstained], groups[abstained])),
        "reasons": {reason: reasons.count(reason) for reason in dict.fromkeys(sorted(reasons))},
    }


def conformal(measured: Measured, decider: Decider, section: EvaluateSection) -> dict[str, Any]:
    """Return the coverage and the size of the conformal sets, over all cases and by class."""
    sets, groups = measured.answers.sets, np.array(measured.groups)
    how = resampling(measured.groups, section)
    covered, sizes = sets[np.arange(len(measured.y)), measured.y], sets.sum(axis=1)

    def row(mask: Any) -> dict[str, Any]:
        (size,) = bootstrap_means(sizes[mask][:, None], replace(how, groups=groups[mask]))
        return {
            "n": int(mask.sum()),
            "coverage": asdict(wilson_clustered(covered[mask], groups[mask])),
            "set_size": asdict(size),
        }

    found = {name: measured.y == i for i, name in enumerate(decider.classes) if (measured.y == i).any()}
    small = [name for name, mask in found.items() if np.unique(groups[mask]).size < MIN_CASES]
    pooled = row(np.any([found[name] for name in small], axis=0)) if len(small) > 1 else None
    return {
        "promised": 1 - decider.conformal_alpha,
        "all": row(np.ones(len(measured.y), dtype=bool)),
        "by_class": {name: row(mask) for name, mask in found.items()},
        # Too few cases of one class for an estimate of its own.
        "pooled": {"classes": small, **pooled} if pooled else None,
    }


def confidence(measured: Measured, threshold: float | None) -> FloatArray:
    """Return the confidence of each decision: 0 at the threshold, 1 at certainty."""
    shares = measured.shares
    if threshold is None or shares.shape[1] != 2:
        return np.asarray(shares.max(axis=1))
    above, share = measured.chosen == 1, shares[:, 1]
    reach = np.where(above, 1 - threshold, threshold)
    return np.asarray(np.abs(share - threshold) / np.where(reach > 0, reach, 1.0))


def risk_rows(measured: Measured, threshold: float | None) -> list[dict[str, Any]]:
    """Return the share of wrong decisions among the most confident cases, with its interval."""
    wrong, sure, groups = ~_is_correct(measured), confidence(measured, threshold), np.array(measured.groups)
    ordered = np.sort(sure)[::-1]
    rows = []
    for share in COVERAGES:
        least = ordered[max(int(np.ceil(share * len(ordered))), 1) - 1]
        included = sure >= least
        risk = asdict(wilson_clustered(wrong[included], groups[included]))
        rows.append({"coverage": float(included.mean()), "confidence": float(least), "risk": risk})
    return rows


def risk_points(measured: Measured, threshold: float | None) -> list[dict[str, Any]]:
    """Return all points of the risk-coverage curve."""
    curve = risk_coverage(~_is_correct(measured), confidence(measured, threshold))
    return [
        {"coverage": float(c), "risk": float(r), "confidence": float(s)}
        for c, r, s in zip(curve.coverage, curve.risk, curve.confidence, strict=True)
    ]


def _is_correct(measured: Measured) -> Any:
    """Return whether each decision is correct, in the positive view."""
    return measured.chosen == measured.truth
