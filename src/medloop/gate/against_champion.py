"""The comparison with the champion or the reference version on the same locked test cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any, Literal

import numpy as np

from medloop.case import RuleOutcome
from medloop.gate.predictions import Predictions
from medloop.metrics import METRICS
from medloop.metrics.intervals.bootstrap import Resampling
from medloop.metrics.intervals.delong import delong_paired
from medloop.metrics.intervals.estimate import Comparison
from medloop.metrics.intervals.gain import gain, pair_scores
from medloop.metrics.intervals.power import Plan, cases_needed_to_compare
from medloop.metrics.intervals.proportions import mcnemar_exact
from medloop.metrics.metric import BoolArray
from medloop.metrics.view import BY_CLASS, one_hot
from medloop.recipe import GateRule, GateSection

# Fixed, so that nobody can search for a seed with which the gate passes.
DRAWS, SEED = 2000, 0
# As in the report: one in forty useless changes has a lower bound above 0.
LEVEL = 0.95
ERROR = (1 - LEVEL) / 2
# Smaller subgroups are pooled, since so few patients allow no conclusion.
MIN_PATIENTS = 20
FIRST = "no champion yet"


@dataclass(frozen=True, kw_only=True)
class Opponent:
    """A version to compare with: its predictions on the same cases, or the reason why there are none."""

    version: int
    bundle: str
    predictions: Predictions | None = None
    why_not: str = ""
    warnings: tuple[str, ...] = ()
    role: Literal["champion", "reference version"] = "champion"

    def subset(self, mask: BoolArray) -> Opponent:
        """Return the opponent with the selected cases only."""
        return replace(self, predictions=self.predictions and self.predictions.subset(mask))

    def in_view_of(self, rule: GateRule) -> Opponent:
        """Return the opponent with the predictions that the rule is about."""
        return replace(self, predictions=self.predictions and in_view_of(rule, self.predictions))


def metric_of(rule: GateRule) -> str:
    """Return the metric of a rule on test cases."""
    return rule.metric.removeprefix("test_").removeprefix(BY_CLASS)


def in_view_of(rule: GateRule, predictions: Predictions) -> Predictions:
    """Return the predictions that the rule is about: those of single classes, or positive or negative."""
    by_class = rule.metric.startswith(f"test_{BY_CLASS}")
    return predictions.by_class or predictions if by_class else predictions


def outcome_against(
    rule: GateRule,
    section: GateSection,
    challenger: Predictions,
    opponent: Opponent | None,
    *,
    where: str = "",
    error: float = ERROR,
    planned: float = ERROR,
) -> RuleOutcome:
    """Return whether the lower bound of the gain over the opponent exceeds the limit of the rule.

    `error` is the allowed probability of passing by chance, and `planned` that of a first comparison on new cases.
    """
    role = "champion" if opponent is None else opponent.role
    name, limit = f"{rule.metric} against the {role}{where}", rule.limit
    margin = f"better by more than {limit:g}" if rule.better_by is not None else f"worse by less than {-limit:g}"
    needed = f"{margin} ({100 * (1 - error):.5g}% confidence)"
    if opponent is None:
        return RuleOutcome(name=name, needed=needed, found=FIRST, passed=True)
    if opponent.predictions is None:
        ignored = section.champion == "ignore"
        todo = "ignored (gate.champion: ignore)"
        if not ignored:
            todo = "to promote without this comparison, set `gate.champion: ignore` in params.yaml"
        note = f"{opponent.why_not}; {todo}"
        return RuleOutcome(name=name, needed=needed, found="not compared", passed=ignored, note=note)
    pair = VersionPair(metric=metric_of(rule), challenger=challenger, champion=opponent.predictions)
    found = pair.gain(error=error)
    passed = bool(found.lower > limit)
    plan = Plan(limit=limit, error=planned, power=section.power, equal=rule.not_worse_by is not None)
    note = "" if passed else _reason(found, pair, plan)
    return RuleOutcome(name=name, needed=needed, found=format_gain(found), passed=passed, n=found.n, note=note)


@dataclass(frozen=True, kw_only=True)
class VersionPair:
    """Two versions that are compared by one metric."""

    metric: str
    challenger: Predictions
    champion: Predictions

    @property
    def unit(self) -> str:
        """The kind of cases that the metric counts."""
        return {"positives": "positive cases", "negatives": "negative cases"}.get(
            METRICS[self.metric].of or "", "cases"
        )

    def gain(self, *, error: float) -> Comparison:
        """Return the gain of the challenger over the champion."""
        return self._gain(self.challenger.input_of(self.metric), error=error)

    def gain_of_perfect(self, *, error: float) -> Comparison:
        """Return the gain that a perfect model would have over the champion."""
        truth = self.challenger.truth
        return self._gain(one_hot(truth, self.challenger.shares.shape[1]), error=error)

    def needed(self, found: Comparison, plan: Plan) -> int:
        """Return the number of cases that the plan needs."""
        one, two = self.challenger, self.champion
        shares = one.input_of(self.metric), two.input_of(self.metric)
        return cases_needed_to_compare(self.metric, pair_scores(one.truth, *shares, groups=one.groups), found, plan)

    def _gain(self, shares: Any, *, error: float) -> Comparison:
        return gain(
            self.metric,
            self.challenger.truth,
            shares,
            self.champion.input_of(self.metric),
            Resampling(groups=self.challenger.groups, draws=DRAWS, seed=SEED, level=1 - 2 * error),
        )


def format_gain(found: Comparison) -> str:
    """Return the gain with its interval: +0.012 [-0.004, +0.031]."""
    if not isfinite(found.difference):
        return "undefined"
    if not isfinite(found.lower):
        return f"{found.difference:+.3f}, no interval"
    return f"{found.difference:+.3f} [{found.lower:+.3f}, {found.upper:+.3f}]"


def _reason(found: Comparison, pair: VersionPair, plan: Plan) -> str:
    """Return why the rule failed: the challenger is worse, or the cases are too few, with the number needed."""
    unit = pair.unit
    if not isfinite(found.lower):
        return f"too few {unit} for a comparison: {found.note or 'no interval'}"
    if found.upper <= plan.limit:
        return "worse by more than the margin" if plan.equal else "not better by the required difference"
    # A margin is planned for models that are equal; a gain for the observed one.
    if not plan.equal and found.difference <= plan.limit:
        return "inconclusive: the observed gain does not reach the required one, so no sample size can be stated"
    assumed = "both models are equally good" if plan.equal else "the observed gain is the true one"
    needed = pair.needed(found, plan)
    if needed <= found.n:
        # Because of many evaluations or bad luck; new cases may show it.
        power = f"would give {plan.power:.0%} power, assuming that {assumed}"
        return f"not shown on these cases; {needed:,} new {unit} {power}"
    impossible = pair.gain_of_perfect(error=plan.error).lower <= plan.limit
    return (
        f"too few cases{', even for a perfect model' if impossible else ''}: at least {needed:,} {unit} are needed "
        f"(there are {found.n:,}) for {plan.power:.0%} power, assuming that {assumed}"
    )


def subgroup_masks(values: Sequence[str | None], groups: Any) -> dict[str, BoolArray]:
    """Return the cases of each subgroup, with the smallest subgroups pooled."""
    names = np.array(["unknown" if value is None else value for value in values])
    masks = {str(name): names == name for name in np.unique(names)}
    small = [name for name, mask in masks.items() if np.unique(groups[mask]).size < MIN_PATIENTS]
    if len(small) < 2:
        return masks
    pooled = np.isin(names, small)
    return {**{name: mask for name, mask in masks.items() if name not in small}, " or ".join(small): pooled}


def head_to_head(challenger: Predictions, opponent: Opponent) -> dict[str, Any]:
    """Return McNemar's test of the decisions and DeLong's of the areas, for the verdict."""
    facts: dict[str, Any] = {"version": opponent.version, "bundle": opponent.bundle}
    champion = opponent.predictions
    if champion is None:
        return {**facts, "compared": False, "why_not": opponent.why_not}
    discordance = mcnemar_exact(
        challenger.truth, challenger.decisions.argmax(axis=1), champion.decisions.argmax(axis=1)
    )
    facts |= {
        "compared": True,
        "n": discordance.n,
        "patients": int(np.unique(challenger.groups).size),
        "only_challenger_right": discordance.only_first,
        "only_champion_right": discordance.only_second,
        "mcnemar_p": discordance.p_value,
    }
    if challenger.shares.shape[1] == 2:
        area = delong_paired(challenger.truth, challenger.shares[:, 1], champion.shares[:, 1], level=LEVEL)
        facts["auc_gain"] = {
            name: value if isfinite(value) else None
            for name, value in (
                ("value", area.difference),
                ("lower", area.lower),
                ("upper", area.upper),
                ("p_value", area.p_value),
            )
        }
    if facts["patients"] < facts["n"]:
        facts["note"] = (
            "McNemar's and DeLong's tests treat the cases of a patient as independent; the rules of the gate do not"
        )
    return facts
