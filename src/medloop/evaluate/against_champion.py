"""The champion on the same locked cases: who is better, by how much, and whether the cases are enough to tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import numpy as np

from medloop.case import RuleOutcome
from medloop.evaluate.decided import Decided
from medloop.metrics import METRICS
from medloop.metrics.delong import delong_paired
from medloop.metrics.estimate import Comparison
from medloop.metrics.gain import cases_needed_for_gain, gain
from medloop.metrics.metric import BoolArray
from medloop.metrics.proportions import mcnemar_exact
from medloop.metrics.view import BY_CLASS
from medloop.recipe import GateRule, GateSection

# Fixed, so that nobody can look for a seed under which the gate says yes.
DRAWS, SEED = 2000, 0
# That of the report's intervals: at its lower end one in forty useless changes looks like a gain.
LEVEL = 0.95
# Subgroups of fewer patients are taken together: of so few nothing can be told.
FEW_PATIENTS = 20
FIRST = "no champion: the first"


@dataclass(frozen=True, kw_only=True)
class Opponent:
    """The champion: what it said of the same cases, or why it cannot be compared with."""

    version: int
    bundle: str
    decided: Decided | None = None
    why_not: str = ""
    warnings: tuple[str, ...] = ()

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
    rule: GateRule, section: GateSection, challenger: Decided, opponent: Opponent | None, *, where: str = ""
) -> RuleOutcome:
    """Whether the gain over the champion is what the rule asks for; the lower end of its interval decides."""
    name, limit = f"{rule.metric} against the champion{where}", rule.limit
    needed = f"gain > {limit:+g} ({'better' if rule.better_by is not None else 'not worse'})"
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
    metric = metric_of(rule)
    found = _gain(metric, challenger, opponent.decided)
    return RuleOutcome(
        name=name,
        needed=needed,
        found=gain_text(found),
        passed=bool(found.lower > limit),
        n=found.n,
        note="" if found.lower > limit else _why(found, limit, rule, section, _unit(metric)),
    )


def _gain(metric: str, challenger: Decided, champion: Decided) -> Comparison:
    return gain(
        metric,
        challenger.truth,
        challenger.measured_by(metric),
        champion.measured_by(metric),
        groups=challenger.groups,
        draws=DRAWS,
        seed=SEED,
        level=LEVEL,
    )


def gain_text(found: Comparison) -> str:
    """+0.012 [-0.004, +0.031]"""
    if not isfinite(found.difference):
        return "undefined"
    if not isfinite(found.lower):
        return f"{found.difference:+.3f}, no interval"
    return f"{found.difference:+.3f} [{found.lower:+.3f}, {found.upper:+.3f}]"


def _why(found: Comparison, limit: float, rule: GateRule, section: GateSection, unit: str) -> str:
    """Worse, or too few cases to tell; and how many would tell, were the truth as it is assumed in the plan."""
    if not isfinite(found.lower):
        return f"too few {unit} to tell: {found.note or 'no interval'}"
    if found.upper <= limit:
        return "worse by more than the margin" if rule.not_worse_by is not None else "not better by so much"
    # A margin is planned for models that are equal; a gain for the one that was seen.
    expected = 0.0 if rule.not_worse_by is not None else found.difference
    if expected <= limit:
        return f"too few {unit} to tell, and no gain was seen that more of them could confirm"
    reach = (found.upper - found.lower) / 2
    needed = cases_needed_for_gain(found.n, reach=reach, room=expected - limit, power=section.power, level=LEVEL)
    assumed = "both are equally good" if rule.not_worse_by is not None else "the gain is as seen"
    return (
        f"not enough cases: need n >= {needed:,} {unit} (have {found.n:,}) for {section.power:.0%} power if {assumed}"
    )


def _unit(metric: str) -> str:
    of = METRICS[metric].of
    return of if of in {"positives", "negatives"} else "cases"


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
