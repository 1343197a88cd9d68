"""The threshold: chosen by the recipe's rule, and how sure it is to keep what the rule asks for."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloop.bundle.decide import FloatArray
from medloop.errors import UserError
from medloop.metrics.proportions import wilson_clustered
from medloop.recipe.sections import THRESHOLD_RULE

Mask = NDArray[np.bool_]
# How far below what was asked the truth may lie before it is told, and from which chance on.
SLACK = 0.05
NOTABLE_CHANCE = 0.1


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A threshold rule of the recipe, read."""

    figure: str
    asked: float | None = None
    confidence: float | None = None


def read_rule(text: str) -> Rule:
    """`sensitivity >= 0.95`, the same `with 90% confidence`, `specificity >= 0.9`, `probability >= 0.5` or `youden`."""
    match = THRESHOLD_RULE.fullmatch(text)
    if match is None:
        raise UserError("export.threshold must be a rule", found=text, hint="write `sensitivity >= 0.95`")
    if match["figure"] is None:
        return Rule(figure="youden")
    confidence = float(match["confidence"]) / 100 if match["confidence"] else None
    return Rule(figure=match["figure"], asked=float(match["value"]), confidence=confidence)


def choose_threshold(text: str, is_positive: Any, share: FloatArray, groups: Sequence[Hashable] | None = None) -> float:
    """The threshold on the positive share that the recipe's rule asks for.

    With a confidence, the figure must be reached by its lower bound. Where there are too few cases for any bound to
    reach it, no positive (or no negative) case may be on the wrong side.
    """
    rule, positive = read_rule(text), np.asarray(is_positive, dtype=bool)
    if rule.figure == "probability":
        assert rule.asked is not None  # noqa: S101 - the pattern has a value there
        return rule.asked
    candidates = np.unique(np.concatenate([share, [1.0]]))
    caught = _share_below(-share[positive], -candidates)
    spared = 1 - _share_below(-share[~positive], -candidates)
    if rule.figure == "youden":
        return _between(share, float(candidates[np.argmax(caught + spared)]))
    assert rule.asked is not None  # noqa: S101 - the pattern has a value there
    reached = caught if rule.figure == "sensitivity" else spared
    holds = reached >= rule.asked
    if rule.confidence is not None:
        side = positive if rule.figure == "sensitivity" else ~positive
        sure = confidence_in(reached, _patients(side, groups), rule.asked)
        holds = (sure >= rule.confidence) | (reached >= 1)
    if rule.figure == "sensitivity":
        return _between(share, float(candidates[holds].max(initial=candidates[0])))
    return _between(share, float(candidates[holds].min(initial=1.0)))


def _share_below(values: FloatArray, cuts: FloatArray) -> FloatArray:
    """The share of the values that are at most each cut; undefined of none."""
    if not len(values):
        return np.full(len(cuts), np.nan)
    return np.asarray(np.searchsorted(np.sort(values), cuts, side="right") / len(values))


def _between(share: FloatArray, cut: float) -> float:
    """Halfway to the next lower case, so that the last digit of the chosen one does not decide."""
    below = share[share < cut]
    return float((cut + below.max()) / 2) if len(below) else cut


def confidence_in(reached: Any, patients: int, asked: float) -> FloatArray:
    """The chance that the true figure is at least the one asked for, where a share of so many patients was on its side.

    A threshold that stands next to the lowest of the cases that it catches has a true sensitivity with a beta
    distribution, whatever that of the scores is.
    """
    from scipy.special import betainc

    right = np.asarray(reached, dtype=np.float64) * patients
    sure = 1 - betainc(np.maximum(right, 1e-9), patients - right + 1, asked)
    return np.asarray(np.where(right > 0, sure, 0.0))


def threshold_facts(
    text: str, value: float, is_positive: Mask, share: FloatArray, groups: Sequence[Hashable]
) -> dict[str, Any]:
    """What the threshold reached on the cases that it was chosen on, and how far the truth may lie below."""
    rule, over = read_rule(text), share >= value
    sides = {"sensitivity": (is_positive, over), "specificity": (~is_positive, ~over)}
    reached = {name: _interval(right, side, groups) for name, (side, right) in sides.items()}
    facts: dict[str, Any] = {
        "figure": rule.figure,
        "asked": rule.asked,
        "confidence": rule.confidence,
        "positives": {"cases": int(is_positive.sum()), "patients": _patients(is_positive, groups)},
        "negatives": {"cases": int((~is_positive).sum()), "patients": _patients(~is_positive, groups)},
        **reached,
        "confidence_reached": None,
        "chance_below": None,
    }
    if rule.figure in sides and rule.asked is not None and reached[rule.figure]["value"] is not None:
        patients, found, limit = _patients(sides[rule.figure][0], groups), reached[rule.figure]["value"], rule.asked
        facts["confidence_reached"] = float(confidence_in(found, patients, limit))
        lower = round(max(limit - SLACK, 0.0), 9)
        facts["chance_below"] = {"limit": lower, "chance": 1 - float(confidence_in(found, patients, lower))}
    return facts


def describe_threshold(facts: Mapping[str, Any]) -> str:
    """threshold 0.312 by sensitivity >= 0.95 (28% chance that the true sensitivity is below 0.90)"""
    if facts["value"] is None:
        return "the likeliest class"
    said, below = f"threshold {facts['value']:.3f} by {facts['rule']}", facts["chance_below"]
    if below is None or below["chance"] < NOTABLE_CHANCE:
        return said
    return f"{said} ({below['chance']:.0%} chance that the true {facts['figure']} is below {below['limit']:.2f})"


def cases_to_be_sure(asked: float, confidence: float) -> int:
    """The fewest cases on which a rule can reach its figure with this confidence: then all must be on its side."""
    return int(np.ceil(np.log1p(-confidence) / np.log(asked))) if 0 < asked < 1 else 0


def _patients(side: Mask, groups: Sequence[Hashable] | None) -> int:
    if groups is None:
        return int(side.sum())
    return len({groups[row] for row in np.flatnonzero(side).tolist()})


def _interval(right: Mask, side: Mask, groups: Sequence[Hashable]) -> dict[str, float | None]:
    if not side.any():
        return {"value": None, "lower": None, "upper": None}
    named = [str(groups[row]) for row in np.flatnonzero(side).tolist()]
    found = asdict(wilson_clustered(right[side], named))
    return {name: float(found[name]) for name in ("value", "lower", "upper")}
