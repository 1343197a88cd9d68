"""When the bundle gives no class: how often, how right it is on the rest, and whether its sets hold the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from medloop.bundle.decide import Decider
from medloop.evaluate.figures import Measured
from medloop.metrics.bootstrap import bootstrap_means
from medloop.metrics.curves import risk_coverage
from medloop.metrics.intervals import FEW
from medloop.metrics.proportions import wilson_clustered
from medloop.metrics.view import FloatArray
from medloop.recipe import EvaluateSection

# Shares of the cases that are answered, the surest first.
ANSWERED = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)


def abstention(measured: Measured, classes: Sequence[str]) -> dict[str, Any]:
    """How many cases the service would give no class, why, and how right it is on the others."""
    silent, sets = measured.silent, measured.answers.sets
    right, groups = _right(measured), np.array(measured.groups)
    covered = sets[np.arange(len(measured.y)), measured.y]
    reasons = [reason.partition(":")[0] for reason in measured.answers.reasons if reason]
    return {
        "n": int(silent.sum()),
        "share": float(silent.mean()),
        "accuracy_of_the_rest": float(right[~silent].mean()) if (~silent).any() else None,
        "conformal_coverage": {
            name: float(covered[measured.y == i].mean()) for i, name in enumerate(classes) if (measured.y == i).any()
        },
        "conformal_set_size": float(sets.sum(axis=1).mean()),
        "share_interval": asdict(wilson_clustered(silent, groups)),
        "rest_interval": asdict(wilson_clustered(right[~silent], groups[~silent])),
        "silent_interval": asdict(wilson_clustered(right[silent], groups[silent])),
        "reasons": {reason: reasons.count(reason) for reason in dict.fromkeys(sorted(reasons))},
    }


def conformal(measured: Measured, decider: Decider, section: EvaluateSection) -> dict[str, Any]:
    """By class, how often the set of remaining classes holds the truth, and how large it is."""
    sets, groups = measured.answers.sets, np.array(measured.groups)
    covered, sizes = sets[np.arange(len(measured.y)), measured.y], sets.sum(axis=1)

    def row(mask: Any) -> dict[str, Any]:
        (size,) = bootstrap_means(sizes[mask][:, None], groups=groups[mask], draws=section.draws, seed=section.seed)
        return {
            "n": int(mask.sum()),
            "coverage": asdict(wilson_clustered(covered[mask], groups[mask])),
            "set_size": asdict(size),
        }

    found = {name: measured.y == i for i, name in enumerate(decider.classes) if (measured.y == i).any()}
    tiny = [name for name, mask in found.items() if np.unique(groups[mask]).size < FEW]
    together = row(np.any([found[name] for name in tiny], axis=0)) if len(tiny) > 1 else None
    return {
        "promised": 1 - decider.conformal_alpha,
        "all": row(np.ones(len(measured.y), dtype=bool)),
        "by_class": {name: row(mask) for name, mask in found.items()},
        # Of a tiny class alone the coverage says little.
        "pooled": {"classes": tiny, **together} if together else None,
    }


def confidence(measured: Measured, threshold: float | None) -> FloatArray:
    """How far each decision is from being another one: 0 at the threshold, 1 at certainty."""
    shares = measured.shares
    if threshold is None or shares.shape[1] != 2:
        return np.asarray(shares.max(axis=1))
    above, share = measured.chosen == 1, shares[:, 1]
    reach = np.where(above, 1 - threshold, threshold)
    return np.asarray(np.abs(share - threshold) / np.where(reach > 0, reach, 1.0))


def risk_rows(measured: Measured, threshold: float | None) -> list[dict[str, Any]]:
    """Share of wrong decisions where only the surest cases are answered, with its interval."""
    wrong, sure, groups = ~_right(measured), confidence(measured, threshold), np.array(measured.groups)
    ordered = np.sort(sure)[::-1]
    rows = []
    for share in ANSWERED:
        least = ordered[max(int(np.ceil(share * len(ordered))), 1) - 1]
        answered = sure >= least
        risk = asdict(wilson_clustered(wrong[answered], groups[answered]))
        rows.append({"coverage": float(answered.mean()), "confidence": float(least), "risk": risk})
    return rows


def risk_points(measured: Measured, threshold: float | None) -> list[dict[str, Any]]:
    """The whole curve of risk against coverage."""
    curve = risk_coverage(~_right(measured), confidence(measured, threshold))
    return [
        {"coverage": float(c), "risk": float(r), "confidence": float(s)}
        for c, r, s in zip(curve.coverage, curve.risk, curve.confidence, strict=True)
    ]


def _right(measured: Measured) -> Any:
    """In the positive view, as every figure of the report."""
    return measured.chosen == measured.truth
