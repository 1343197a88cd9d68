"""The champion or the reference version on the same locked cases: who is better, by how much, and is that enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any, Literal

import numpy as np

from medloop.case import RuleOutcome
from medloop.evaluate.decided import Decided
from medloop.metrics import METRICS
from medloop.metrics.delong import delong_paired
from medloop.metrics.estimate import Comparison
from medloop.metrics.gain import both_of, gain
from medloop.metrics.metric import BoolArray
from medloop.metrics.power import Plan, cases_needed_to_compare
from medloop.metrics.proportions import mcnemar_exact
from medloop.metrics.view import BY_CLASS, one_hot
from medloop.recipe import GateRule, GateSection

# Fixed, so that nobody can look for a seed under which the gate says yes.
DRAWS, SEED = 2000, 0
# That of the report's intervals: at its lower end one in forty useless changes looks like a gain.
LEVEL = 0.95
ERROR = (1 - LEVEL) / 2
# Subgroups of fewer patients are taken together: of so few nothing can be told.
FEW_PATIENTS = 20
FIRST = "no champion: the first"


@dataclass(frozen=True, kw_only=True)
class Opponent:
    """A version that is compared with: what it said of the same cases, or why it cannot be compared with."""

    version: int
    bundle: str
    decided: Decided | None = None
    why_not: str = ""
    warnings: tuple[str, ...] = ()
    role: Literal["champion", "reference version"] = "champion"

    def only(self, mask: BoolArray) -> Opponent:
        """The same on these cases alone."""
        return replace(self, decided=self.decided and self.decided.only(mask))

    def seen_as(self, rule: GateRule) -> Opponent:
        """The same as the rule sees it."""
        return replace(self, decided=self.decided and seen_as(rule, self.decided))


def metric_of(rule: GateRule) -> str:
    """The metric of a rule on test cases."""
    return rule.metric.removeprefix("test_").removeprefix(BY_CLASS)


def seen_as(rule: GateRule, decided: Decided) -> Decided:
    """What was decided as the rule sees it: by single classes, or positive or not."""
    by_class = rule.metric.startswith(f"test_{BY_CLASS}")
    return decided.by_class or decided if by_class else decided


def outcome_against(
    rule: GateRule,
    section: GateSection,
    challenger: Decided,
    opponent: Opponent | None,
    *,
    where: str = "",
    error: float = ERROR,
    planned: float = ERROR,
) -> RuleOutcome:
    """Whether the gain over the opponent is what the rule asks for; the lower end of its one-sided interval decides.

    `error` is how often it may pass by luck, and `planned` what a first comparison on new cases would be allowed.
    """
    role = "champion" if opponent is None else opponent.role
    name, limit = f"{rule.metric} against the {role}{where}", rule.limit
    asked = "better" if rule.better_by is not None else "not worse"
    needed = f"gain > {limit:+g} ({asked}, {100 * (1 - error):.5g}% sure)"
    if opponent is None:
        return RuleOutcome(name=name, needed=needed, found=FIRST, passed=True)
    if opponent.decided is None:
        ignored = section.champion == "ignore"
        todo = (
            "the recipe ignores it" if ignored else "`gate.champion: ignore` in params.yaml lets it be replaced unseen"
        )
        return RuleOutcome(
            name=name, needed=needed, found="not compared", passed=ignored, note=f"{opponent.why_not}; {todo}"
        )
    compared = Compared(metric=metric_of(rule), challenger=challenger, champion=opponent.decided)
    found = compared.gain(error=error)
    passed = bool(found.lower > limit)
    return RuleOutcome(
        name=name,
        needed=needed,
        found=gain_text(found),
        passed=passed,
        n=found.n,
        note=""
        if passed
        else _why(
            found,
            compared,
            Plan(limit=limit, error=planned, power=section.power, equal=rule.not_worse_by is not None),
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Two versions, measured by one metric."""

    metric: str
    challenger: Decided
    champion: Decided

    @property
    def unit(self) -> str:
        """What the metric counts."""
        of = METRICS[self.metric].of
        return of if of in {"positives", "negatives"} else "cases"

    def gain(self, *, error: float) -> Comparison:
        """How much better the challenger is."""
        return self._gain(self.challenger.measured_by(self.metric), error=error)

    def gain_of_perfect(self, *, error: float) -> Comparison:
        """How much better an answer without fault would be."""
        truth = self.challenger.truth
        return self._gain(one_hot(truth, self.challenger.shares.shape[1]), error=error)

    def needed(self, found: Comparison, plan: Plan) -> int:
        """How many cases the plan needs."""
        one, two = self.challenger, self.champion
        shares = one.measured_by(self.metric), two.measured_by(self.metric)
        return cases_needed_to_compare(self.metric, both_of(one.truth, *shares, groups=one.groups), found, plan)

    def _gain(self, shares: Any, *, error: float) -> Comparison:
        return gain(
            self.metric,
            self.challenger.truth,
            shares,
            self.champion.measured_by(self.metric),
            groups=self.challenger.groups,
            draws=DRAWS,
            seed=SEED,
            level=1 - 2 * error,
        )


def gain_text(found: Comparison) -> str:
    """+0.012 [-0.004, +0.031]"""
    if not isfinite(found.difference):
        return "undefined"
    if not isfinite(found.lower):
        return f"{found.difference:+.3f}, no interval"
    return f"{found.difference:+.3f} [{found.lower:+.3f}, {found.upper:+.3f}]"


def _why(found: Comparison, compared: Compared, plan: Plan) -> str:
    """Worse, or too few cases to tell; and how many would tell, were the truth as it is assumed in the plan."""
    unit = compared.unit
    if not isfinite(found.lower):
        return f"too few {unit} to tell: {found.note or 'no interval'}"
    if found.upper <= plan.limit:
        return "worse by more than the margin" if plan.equal else "not better by so much"
    # A margin is planned for models that are equal; a gain for the one that was seen.
    if not plan.equal and found.difference <= plan.limit:
        return f"too few {unit} to tell, and no gain was seen that more of them could confirm"
    assumed = "both are equally good" if plan.equal else "the gain is as seen"
    needed = compared.needed(found, plan)
    hopeless = compared.gain_of_perfect(error=plan.error).lower <= plan.limit
    if needed <= found.n:
        # Too many looks, or bad luck: other cases might show it.
        return f"not shown on these cases; n >= {needed:,} new {unit} would give {plan.power:.0%} power if {assumed}"
    return (
        f"not enough cases{', even for a perfect model' if hopeless else ''}: "
        f"need n >= {needed:,} {unit} (have {found.n:,}) for {plan.power:.0%} power if {assumed}"
    )


def parts_of(values: Sequence[str | None], groups: Any) -> dict[str, BoolArray]:
    """The cases of each subgroup; those of few patients together, since of so few nothing can be told."""
    names = np.array(["unknown" if value is None else value for value in values])
    masks = {str(name): names == name for name in np.unique(names)}
    small = [name for name, mask in masks.items() if np.unique(groups[mask]).size < FEW_PATIENTS]
    if len(small) < 2:
        return masks
    together = np.isin(names, small)
    return {**{name: mask for name, mask in masks.items() if name not in small}, " or ".join(small): together}


def head_to_head(challenger: Decided, opponent: Opponent) -> dict[str, Any]:
    """What the verdict tells of the two beside its rules: McNemar on the decisions, DeLong on the areas."""
    facts: dict[str, Any] = {"version": opponent.version, "bundle": opponent.bundle}
    champion = opponent.decided
    if champion is None:
        return {**facts, "compared": False, "why_not": opponent.why_not}
    apart = mcnemar_exact(challenger.truth, challenger.decisions.argmax(axis=1), champion.decisions.argmax(axis=1))
    facts |= {
        "compared": True,
        "n": apart.n,
        "patients": int(np.unique(challenger.groups).size),
        "only_challenger_right": apart.only_first,
        "only_champion_right": apart.only_second,
        "mcnemar_p": apart.p_value,
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
        facts["note"] = "McNemar and DeLong take the cases of a patient for independent; the rules do not"
    return facts
