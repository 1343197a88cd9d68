"""The rules of the gate, applied to a report; nothing is promoted without its verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from medloop.case import RuleOutcome, Verdict
from medloop.errors import UnknownName, UserError
from medloop.gate.against_champion import (
    ERROR,
    Opponent,
    head_to_head,
    in_view_of,
    metric_of,
    outcome_against,
    subgroup_masks,
)
from medloop.gate.ledger import error_allowed, luck_warning
from medloop.gate.predictions import Predictions, Subgroups
from medloop.gate.sample_size import FOLDS, Figure, sample_size_note
from medloop.metrics import METRICS
from medloop.metrics.intervals.bootstrap import Resampling
from medloop.metrics.intervals.by_metric import interval_for
from medloop.metrics.intervals.estimate import join_notes
from medloop.metrics.intervals.proportions import wilson
from medloop.metrics.metric import BoolArray
from medloop.metrics.view import BY_CLASS
from medloop.recipe import GateRule, GateSection

FOOTPRINT = ("latency_ms", "size_mib")
ABSTENTION = "test_abstention_rate"
ANY = "any"


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The evidence besides the report: the predictions on each case, and those of other versions."""

    challenger: Predictions
    edition_cases: frozenset[str]
    subgroups: Subgroups = field(default_factory=dict)
    opponent: Opponent | None = None
    # Only if it is not the opponent.
    reference: Opponent | None = None
    # The number of this comparison with the reference version on this edition, counted from 1.
    number: int = 1
    footprint: Mapping[str, float] = field(default_factory=dict)
    looks: int = 0


def judge(
    report: Mapping[str, Any], section: GateSection, *, bundle: str, edition: str, evidence: Evidence | None = None
) -> Verdict:
    """Return the verdict on the bundle with this hash, on this edition."""
    rules = [
        _same("bundle", needed=bundle, found=str(report["bundle"])),
        _same("edition", needed=edition, found=str(report["edition"])),
        _smoke(report),
        *([] if evidence is None else [_of_these_cases(report, evidence)]),
        *([_findings(section, report)] if section.forbid else []),
        *[outcome for rule in section.rules for outcome in _outcomes(rule, section, report, evidence)],
    ]
    opponent, reference = (evidence.opponent, evidence.reference) if evidence is not None else (None, None)
    luck = luck_warning(evidence.looks) if evidence is not None else None
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
            *([luck] if luck else []),
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
    """Check that the predictions are those of the report, on cases of the edition."""
    predictions = evidence.challenger
    strange = len(set(predictions.case_ids) - evidence.edition_cases)
    accuracy = METRICS["accuracy"](predictions.truth, predictions.decisions)
    same = (
        bool(np.isclose(accuracy, report["test"]["accuracy"]["value"]))
        and len(predictions.case_ids) == report["n_test"]
    )
    found = f"{strange} cases outside it" if strange else "the same" if same else "other figures"
    return RuleOutcome(
        name="each test case is of the edition",
        needed="the same cases and scores",
        found=found,
        passed=same and not strange,
        n=len(predictions.case_ids),
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
        yield _check_limit(rule, section, figure, in_view_of(rule, evidence.challenger) if evidence else None)
        return
    if metric_of(rule) not in METRICS:
        raise UnknownName("gate.rules.metric", rule.metric, [f"test_{name}" for name in METRICS])
    if evidence is None:
        raise UserError(
            f"The rule on {rule.metric} needs the predictions on every test case.", "Run `medloop evaluate`."
        )
    for where, mask in _subgroups(rule, evidence):
        if rule.compares:
            yield from _compared(rule, section, evidence, where=where, mask=mask)
        else:
            yield _check_in_subgroup(rule, section, evidence.challenger.subset(mask), where=where)


def _subgroups(rule: GateRule, evidence: Evidence) -> Iterator[tuple[str, BoolArray]]:
    """Yield the cases that the rule applies to: all, or those of each subgroup."""
    groups = evidence.challenger.groups
    if rule.each is None:
        yield "", np.ones(groups.size, dtype=bool)
        return
    if rule.each not in evidence.subgroups:
        raise UnknownName("gate.rules.each", rule.each, evidence.subgroups, where="evaluate.subgroups of params.yaml")
    for name, mask in subgroup_masks(evidence.subgroups[rule.each], groups).items():
        yield f", {rule.each} {name}", mask


def _compared(
    rule: GateRule, section: GateSection, evidence: Evidence, *, where: str, mask: BoolArray
) -> Iterator[RuleOutcome]:
    """Compare with the champion and, for a margin, with the reference version under the error budget."""
    spent, first = (error_allowed(number, planned=section.looks) for number in (evidence.number, 1))
    only_champion = rule.better_by is None and evidence.reference is not None
    errors = {"champion": (ERROR, ERROR) if only_champion else (spent, first), "reference version": (spent, first)}
    opponents = [evidence.opponent, *([evidence.reference] if only_champion else [])]
    challenger = in_view_of(rule, evidence.challenger.subset(mask))
    for opponent in opponents:
        error, planned = errors["champion" if opponent is None else opponent.role]
        seen = opponent and opponent.subset(mask).in_view_of(rule)
        yield outcome_against(rule, section, challenger, seen, where=where, error=error, planned=planned)


def _check_in_subgroup(rule: GateRule, section: GateSection, challenger: Predictions, *, where: str) -> RuleOutcome:
    metric, predictions = metric_of(rule), in_view_of(rule, challenger)
    how = Resampling(groups=predictions.groups)
    figure = asdict(interval_for(metric, predictions.truth, predictions.input_of(metric), how))
    return _check_limit(rule, section, figure, predictions, where=where)


def _check_limit(
    rule: GateRule, section: GateSection, figure: Figure, predictions: Predictions | None, *, where: str = ""
) -> RuleOutcome:
    """Compare a figure with a fixed limit."""
    value = _number(figure[rule.bound])
    limit = rule.limit
    sign, holds = (">=", value >= limit) if rule.at_least is not None else ("<=", value <= limit)
    bound = "" if rule.bound == "value" else f", {rule.bound} bound"
    missing = str(figure.get("note", "")) if figure.get("method") == FOLDS else ""
    needed = "" if holds else sample_size_note(rule, figure, predictions=predictions, power=section.power)
    return RuleOutcome(
        name=f"{rule.metric}{where}{bound}",
        needed=f"{sign} {limit:g}",
        found=f"{value:.4f}" if np.isfinite(value) else "undefined",
        passed=bool(holds),
        n=figure["n"],
        note=join_notes(missing, needed),
    )


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def figure_of(rule: GateRule, report: Mapping[str, Any], footprint: Mapping[str, float] | None = None) -> Figure:
    """Return the figure that a rule is about, with its number of cases or folds."""
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
            f"{rule.metric} has no {rule.bound} bound: only means and test metrics have an interval.",
            "Use `bound: value` in gate.rules of params.yaml.",
        )
    figure = report["cross_validation"][name]
    return {**figure, "value": figure[key], "method": FOLDS}


def _further_figures(report: Mapping[str, Any]) -> dict[str, Figure]:
    """Return the figures of the test cases that are not metrics: the abstention rate."""
    if (abstained := report.get("abstained")) is None:
        return {}
    # Reports of older releases have only the counts.
    return {ABSTENTION: abstained.get("share_interval") or asdict(wilson(int(abstained["n"]), int(report["n_test"])))}
