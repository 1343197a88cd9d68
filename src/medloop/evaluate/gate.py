"""The gate: the recipe's rules held against what was measured; nothing is promoted without its verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from medloop.case import RuleOutcome, Verdict
from medloop.errors import UnknownName, UserError
from medloop.evaluate.against_champion import (
    LEVEL,
    Opponent,
    head_to_head,
    metric_of,
    outcome_against,
    parts_of,
    seen_as,
)
from medloop.evaluate.decided import Decided, Subgroups
from medloop.evaluate.ledger import wear
from medloop.metrics import METRICS
from medloop.metrics.gain import cases_needed_for_gain
from medloop.metrics.intervals import intervals_for
from medloop.metrics.proportions import cases_needed_for_lower_bound
from medloop.metrics.view import BY_CLASS
from medloop.recipe import GateRule, GateSection

FOOTPRINT = ("latency_ms", "size_mib")
ANY = "any"
FOLDS = "folds"
Figure = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the rules are held against, besides the report."""

    challenger: Decided
    edition_cases: frozenset[str]
    subgroups: Subgroups = field(default_factory=dict)
    opponent: Opponent | None = None
    footprint: Mapping[str, float] = field(default_factory=dict)
    looks: int = 0

    def seen_as(self, rule: GateRule) -> Evidence:
        """The same as the rule sees it."""
        opponent = self.opponent and self.opponent.seen_as(rule)
        return replace(self, challenger=seen_as(rule, self.challenger), opponent=opponent)


def judge(
    report: Mapping[str, Any], section: GateSection, *, bundle: str, edition: str, evidence: Evidence | None = None
) -> Verdict:
    """The verdict on the bundle of these bytes, on this edition."""
    rules = [
        _same("bundle", needed=bundle, found=str(report["bundle"])),
        _same("edition", needed=edition, found=str(report["edition"])),
        _smoke(report),
        *([] if evidence is None else [_of_these_cases(report, evidence)]),
        *([_findings(section, report)] if section.forbid else []),
        *[outcome for rule in section.rules for outcome in _outcomes(rule, section, report, evidence)],
    ]
    opponent = evidence.opponent if evidence is not None else None
    worn = wear(evidence.looks) if evidence is not None else None
    return Verdict(
        passed=all(rule.passed for rule in rules),
        rules=tuple(rules),
        bundle=bundle,
        edition=edition,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        smoke=bool(report["smoke"]),
        gate=section.model_dump(mode="json"),
        champion=head_to_head(evidence.challenger, opponent) if evidence is not None and opponent else None,
        looks=evidence.looks if evidence is not None else 0,
        warnings=(*(opponent.warnings if opponent else ()), *([worn] if worn else [])),
    )


def _same(name: str, *, needed: str, found: str) -> RuleOutcome:
    return RuleOutcome(
        name=f"the report is of this {name}", needed=needed[:12], found=found[:12], passed=needed == found
    )


def _smoke(report: Mapping[str, Any]) -> RuleOutcome:
    found = "a smoke run" if report["smoke"] else "a full run"
    return RuleOutcome(name="not a smoke run", needed="a full run", found=found, passed=not report["smoke"])


def _of_these_cases(report: Mapping[str, Any], evidence: Evidence) -> RuleOutcome:
    """The scores of the single cases must be those that the report's figures came from, on cases of the edition."""
    decided = evidence.challenger
    strange = len(set(decided.case_ids) - evidence.edition_cases)
    accuracy = METRICS["accuracy"](decided.truth, decided.decisions)
    same = bool(np.isclose(accuracy, report["test"]["accuracy"]["value"])) and len(decided.case_ids) == report["n_test"]
    found = f"{strange} cases outside it" if strange else "the same" if same else "other figures"
    return RuleOutcome(
        name="each test case is of the edition",
        needed="the same cases and scores",
        found=found,
        passed=same and not strange,
        n=len(decided.case_ids),
    )


def _findings(section: GateSection, report: Mapping[str, Any]) -> RuleOutcome:
    accepted = sorted(report["accepted_findings"])
    bad = accepted if ANY in section.forbid else [name for name in accepted if name in section.forbid]
    return RuleOutcome(
        name="audit findings that may not be accepted",
        needed=f"none of: {', '.join(section.forbid)}",
        found=", ".join(bad) or "none",
        passed=not bad,
    )


def _outcomes(
    rule: GateRule, section: GateSection, report: Mapping[str, Any], evidence: Evidence | None
) -> Iterator[RuleOutcome]:
    if not rule.compares and rule.each is None:
        yield _held(rule, section, figure_of(rule, report, evidence.footprint if evidence else {}))
        return
    if (metric := metric_of(rule)) not in METRICS:
        raise UnknownName("gate.rules.metric", rule.metric, [f"test_{name}" for name in METRICS])
    if evidence is None:
        raise UserError("this rule needs the scores of the single cases", found="none", hint="run `medloop evaluate`")
    for where, challenger, opponent in _subgroups(rule, evidence.seen_as(rule)):
        if rule.compares:
            yield outcome_against(rule, section, challenger, opponent, where=where)
        else:
            shares = {metric: challenger.measured_by(metric)}
            yield _held(
                rule,
                section,
                asdict(intervals_for(shares, challenger.truth, groups=challenger.groups)[metric]),
                where=where,
            )


def _subgroups(rule: GateRule, evidence: Evidence) -> Iterator[tuple[str, Decided, Opponent | None]]:
    """The cases that the rule is held against: all, or those of one subgroup after the other."""
    challenger, opponent = evidence.challenger, evidence.opponent
    if rule.each is None:
        yield "", challenger, opponent
        return
    if rule.each not in evidence.subgroups:
        raise UnknownName("gate.rules.each", rule.each, evidence.subgroups, where="evaluate.subgroups of params.yaml")
    for name, mask in parts_of(evidence.subgroups[rule.each], challenger.groups).items():
        yield f", {rule.each} {name}", challenger.only(mask), opponent.only(mask) if opponent else None


def _held(rule: GateRule, section: GateSection, figure: Figure, *, where: str = "") -> RuleOutcome:
    """A figure against a fixed limit."""
    value = _number(figure[rule.bound])
    limit = rule.limit
    sign, holds = (">=", value >= limit) if rule.at_least is not None else ("<=", value <= limit)
    bound = "" if rule.bound == "value" else f", {rule.bound} bound"
    return RuleOutcome(
        name=f"{rule.metric}{where}{bound}",
        needed=f"{sign} {limit:g}",
        found=f"{value:.4f}" if np.isfinite(value) else "undefined",
        passed=bool(holds),
        n=figure["n"],
        note="" if holds or rule.bound == "value" else _too_few(rule, section, figure),
    )


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _too_few(rule: GateRule, section: GateSection, figure: Figure) -> str:
    """How many cases the bound would need to clear the limit, were the truth what was found."""
    value, bound, n, limit = _number(figure["value"]), _number(figure[rule.bound]), int(figure["n"]), rule.limit
    room, reach = abs(value - limit), abs(value - bound)
    beyond = value > limit if rule.at_least is not None else value < limit
    # More folds would not make a bound any nearer: they share their cases.
    if not (beyond and np.isfinite(reach)) or figure.get("method") == FOLDS:
        return ""
    if figure.get("method") == "Wilson" and rule.bound == "lower" and rule.at_least is not None:
        needed = cases_needed_for_lower_bound(value, limit, section.power, level=LEVEL)
    else:
        needed = cases_needed_for_gain(n, reach=reach, room=room, power=section.power, level=LEVEL)
    if needed <= n:
        return ""
    return (
        f"not enough cases: need n >= {needed:,} (have {n:,}) for {section.power:.0%} power if {value:.3f} is the truth"
    )


def figure_of(rule: GateRule, report: Mapping[str, Any], footprint: Mapping[str, float] | None = None) -> Figure:
    """The figure that a rule speaks of, with the number of cases or folds behind it."""
    known = {**report["scores"], **dict.fromkeys(FOOTPRINT)}
    if rule.metric not in known:
        raise UnknownName("gate.rules.metric", rule.metric, known)
    if rule.metric in FOOTPRINT:
        return {"value": (footprint or {}).get(rule.metric), "n": None, "lower": None, "upper": None}
    if report["scores"][rule.metric] is None:
        return {"value": None, "n": 0, "lower": None, "upper": None}
    place, _, rest = rule.metric.partition("_")
    if place == "test":
        by_class = rest not in report["test"]
        return dict(report["over_classes"][rest.removeprefix(BY_CLASS)] if by_class else report["test"][rest])
    name, _, key = rest.rpartition("_")
    if key != "mean" and rule.bound != "value":
        raise UserError(
            "a bound exists only for a mean or a test figure",
            found=f"{rule.metric} with bound {rule.bound}",
            hint="use `bound: value`",
        )
    figure = report["cross_validation"][name]
    return {**figure, "value": figure[key], "method": FOLDS}
