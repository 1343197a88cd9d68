"""Chooses the threshold by the rule of the recipe, and estimates how likely it is to meet the rule."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloop.bundle.decide import FloatArray
from medloop.errors import UserError
from medloop.metrics.intervals.proportions import wilson_clustered
from medloop.recipe.sections import THRESHOLD_RULE

Mask = NDArray[np.bool_]
# The true figure may be this far below the required one, unless the chance that it is lower is notable.
SLACK = 0.05
NOTABLE_CHANCE = 0.1


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A parsed threshold rule of the recipe."""

    figure: str
    asked: float | None = None
    confidence: float | None = None


def read_rule(text: str) -> Rule:
    """Parse `sensitivity >= 0.95`, the same `with 90% confidence`, `probability >= 0.5` or `youden`."""
    match = THRESHOLD_RULE.fullmatch(text)
    if match is None:
        raise UserError(f"export.threshold {text!r} is not a rule.", "Use a rule such as `sensitivity >= 0.95`.")
    if match["figure"] is None:
        return Rule(figure="youden")
    confidence = float(match["confidence"]) / 100 if match["confidence"] else None
    return Rule(figure=match["figure"], asked=float(match["value"]), confidence=confidence)


def choose_threshold(text: str, is_positive: Any, share: FloatArray, groups: Sequence[Hashable] | None = None) -> float:
    """Return the threshold on the positive share that meets the rule.

    With a confidence, the lower bound of the figure has to meet it. Where there are too few cases for any lower bound
    to do so, no positive (or no negative) case is on the wrong side.
    """
    rule, positive = read_rule(text), np.asarray(is_positive, dtype=bool)
    if rule.figure == "probability":
        assert rule.asked is not None  # noqa: S101 - the pattern has a value here
        return rule.asked
    candidates = np.unique(np.concatenate([share, [1.0]]))
    caught = _share_below(-share[positive], -candidates)
    spared = 1 - _share_below(-share[~positive], -candidates)
    if rule.figure == "youden":
        return _between(share, float(candidates[np.argmax(caught + spared)]))
    assert rule.asked is not None  # noqa: S101 - the pattern has a value here
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
    """Return the share of the values up to each cut; NaN if there are no values."""
    if not len(values):
        return np.full(len(cuts), np.nan)
    return np.asarray(np.searchsorted(np.sort(values), cuts, side="right") / len(values))


def _between(share: FloatArray, cut: float) -> float:
    """Return the middle between the cut and the next lower case, so that rounding does not decide."""
    below = share[share < cut]
    return float((cut + below.max()) / 2) if len(below) else cut


def confidence_in(reached: Any, patients: int, asked: float) -> FloatArray:
    """Return the probability that the true figure is at least the required one, given the share on the patients.

    A threshold next to the lowest detected case has a true sensitivity with a beta distribution, whatever the
    distribution of the scores.
    """
    from scipy.special import betainc

    right = np.asarray(reached, dtype=np.float64) * patients
    sure = 1 - betainc(np.maximum(right, 1e-9), patients - right + 1, asked)
    return np.asarray(np.where(right > 0, sure, 0.0))


def threshold_facts(
    text: str, value: float, is_positive: Mask, share: FloatArray, groups: Sequence[Hashable]
) -> dict[str, Any]:
    """Return the figures of the threshold on the cases that it was chosen on, with their uncertainty."""
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
    """Return such as `threshold 0.312 by sensitivity >= 0.95 (28% chance that the true one is below 0.90)`."""
    if facts["value"] is None:
        return "the likeliest class"
    text, below = f"threshold {facts['value']:.3f} by {facts['rule']}", facts["chance_below"]
    if below is None or below["chance"] < NOTABLE_CHANCE:
        return text
    return f"{text} ({below['chance']:.0%} chance that the true {facts['figure']} is below {below['limit']:.2f})"


def cases_to_be_sure(asked: float, confidence: float) -> int:
    """Return the minimum number of cases for this confidence, if all of them are classified correctly."""
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
