"""The gate: the recipe's rules held against what was measured; nothing is promoted without its verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from medloop.case import RuleOutcome, Verdict
from medloop.errors import UnknownName, UserError
from medloop.evaluate.against_champion import (
    ERROR,
    Opponent,
    head_to_head,
    metric_of,
    outcome_against,
    parts_of,
    seen_as,
)
from medloop.evaluate.decided import Decided, Subgroups
from medloop.evaluate.ledger import error_allowed, wear
from medloop.evaluate.needed import FOLDS, Figure, what_is_needed
from medloop.metrics import METRICS
from medloop.metrics.estimate import joined
from medloop.metrics.intervals import interval_for
from medloop.metrics.metric import BoolArray
from medloop.metrics.proportions import wilson
from medloop.metrics.view import BY_CLASS
from medloop.recipe import GateRule, GateSection

FOOTPRINT = ("latency_ms", "size_mib")
ABSTENTION = "test_abstention_rate"
ANY = "any"


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the rules are held against, besides the report."""

    challenger: Decided
    edition_cases: frozenset[str]
    subgroups: Subgroups = field(default_factory=dict)
    opponent: Opponent | None = None
    # Where it is another version than the opponent.
    reference: Opponent | None = None
    # Which comparison with the reference version on this edition it is, counted from 1.
    number: int = 1
    footprint: Mapping[str, float] = field(default_factory=dict)
    looks: int = 0


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
    opponent, reference = (evidence.opponent, evidence.reference) if evidence is not None else (None, None)
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
        reference=head_to_head(evidence.challenger, reference) if evidence is not None and reference else None,
        looks=evidence.looks if evidence is not None else 0,
        warnings=(
            *(warning for one in (opponent, reference) if one is not None for warning in one.warnings),
            *([worn] if worn else []),
        ),
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
        figure = figure_of(rule, report, evidence.footprint if evidence else {})
        yield _held(rule, section, figure, seen_as(rule, evidence.challenger) if evidence else None)
        return
    if metric_of(rule) not in METRICS:
        raise UnknownName("gate.rules.metric", rule.metric, [f"test_{name}" for name in METRICS])
    if evidence is None:
        raise UserError("this rule needs the scores of the single cases", found="none", hint="run `medloop evaluate`")
    for where, mask in _subgroups(rule, evidence):
        if rule.compares:
            yield from _compared(rule, section, evidence, where=where, mask=mask)
        else:
            yield _held_in_subgroup(rule, section, evidence.challenger.only(mask), where=where)


def _subgroups(rule: GateRule, evidence: Evidence) -> Iterator[tuple[str, BoolArray]]:
    """The cases that the rule is held against: all, or those of one subgroup after the other."""
    groups = evidence.challenger.groups
    if rule.each is None:
        yield "", np.ones(groups.size, dtype=bool)
        return
    if rule.each not in evidence.subgroups:
        raise UnknownName("gate.rules.each", rule.each, evidence.subgroups, where="evaluate.subgroups of params.yaml")
    for name, mask in parts_of(evidence.subgroups[rule.each], groups).items():
        yield f", {rule.each} {name}", mask


def _compared(
    rule: GateRule, section: GateSection, evidence: Evidence, *, where: str, mask: BoolArray
) -> Iterator[RuleOutcome]:
    """Against the champion; a margin is also held against the reference version, which looks must not wear down."""
    spent, first = (error_allowed(number, planned=section.looks) for number in (evidence.number, 1))
    only_champion = rule.better_by is None and evidence.reference is not None
    errors = {"champion": (ERROR, ERROR) if only_champion else (spent, first), "reference version": (spent, first)}
    opponents = [evidence.opponent, *([evidence.reference] if only_champion else [])]
    challenger = seen_as(rule, evidence.challenger.only(mask))
    for opponent in opponents:
        error, planned = errors["champion" if opponent is None else opponent.role]
        seen = opponent and opponent.only(mask).seen_as(rule)
        yield outcome_against(rule, section, challenger, seen, where=where, error=error, planned=planned)


def _held_in_subgroup(rule: GateRule, section: GateSection, challenger: Decided, *, where: str) -> RuleOutcome:
    metric, decided = metric_of(rule), seen_as(rule, challenger)
    figure = asdict(interval_for(metric, decided.truth, decided.measured_by(metric), groups=decided.groups))
    return _held(rule, section, figure, decided, where=where)


def _held(
    rule: GateRule, section: GateSection, figure: Figure, decided: Decided | None, *, where: str = ""
) -> RuleOutcome:
    """A figure against a fixed limit."""
    value = _number(figure[rule.bound])
    limit = rule.limit
    sign, holds = (">=", value >= limit) if rule.at_least is not None else ("<=", value <= limit)
    bound = "" if rule.bound == "value" else f", {rule.bound} bound"
    missing = str(figure.get("note", "")) if figure.get("method") == FOLDS else ""
    needed = "" if holds else what_is_needed(rule, figure, decided=decided, power=section.power)
    return RuleOutcome(
        name=f"{rule.metric}{where}{bound}",
        needed=f"{sign} {limit:g}",
        found=f"{value:.4f}" if np.isfinite(value) else "undefined",
        passed=bool(holds),
        n=figure["n"],
        note=joined(missing, needed),
    )


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def figure_of(rule: GateRule, report: Mapping[str, Any], footprint: Mapping[str, float] | None = None) -> Figure:
    """The figure that a rule speaks of, with the number of cases or folds behind it."""
    if rule.metric in FOOTPRINT:
        return {"value": (footprint or {}).get(rule.metric), "n": None, "lower": None, "upper": None}
    further = _further_figures(report)
    known = {**report["scores"], **further, **dict.fromkeys(FOOTPRINT)}
    if rule.metric not in known:
        raise UnknownName("gate.rules.metric", rule.metric, known)
    if rule.metric in further:
        return further[rule.metric]
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


def _further_figures(report: Mapping[str, Any]) -> dict[str, Figure]:
    """What is told of the test cases beside the metrics: how often no class is given."""
    if (silent := report.get("abstained")) is None:
        return {}
    # A report of before there were intervals has the counts.
    return {ABSTENTION: silent.get("share_interval") or asdict(wilson(int(silent["n"]), int(report["n_test"])))}
