"""The gate: the recipe's rules held against a report; nothing is promoted without its verdict."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np

from medloop.case import RuleOutcome, Verdict
from medloop.errors import UnknownName, UserError
from medloop.recipe import GateRule, GateSection


def judge(report: Mapping[str, Any], section: GateSection, *, bundle: str, edition: str) -> Verdict:
    """The verdict on the bundle of these bytes, on this edition."""
    rules = [
        _same("bundle", needed=bundle, found=str(report["bundle"])),
        _same("edition", needed=edition, found=str(report["edition"])),
        _smoke(report),
        *[_outcome(rule, report) for rule in section.rules],
    ]
    return Verdict(
        passed=all(rule.passed for rule in rules),
        rules=tuple(rules),
        bundle=bundle,
        edition=edition,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        smoke=bool(report["smoke"]),
    )


def _same(name: str, *, needed: str, found: str) -> RuleOutcome:
    return RuleOutcome(
        name=f"the report is of this {name}", needed=needed[:12], found=found[:12], passed=needed == found
    )


def _smoke(report: Mapping[str, Any]) -> RuleOutcome:
    found = "a smoke run" if report["smoke"] else "a full run"
    return RuleOutcome(name="not a smoke run", needed="a full run", found=found, passed=not report["smoke"])


def _outcome(rule: GateRule, report: Mapping[str, Any]) -> RuleOutcome:
    figure, n = figure_of(rule, report)
    limit = rule.at_least if rule.at_least is not None else rule.at_most
    sign = ">=" if rule.at_least is not None else "<="
    holds = figure >= limit if rule.at_least is not None else figure <= limit  # type: ignore[operator]
    name = rule.metric if rule.bound == "value" else f"{rule.metric}, {rule.bound} bound"
    found = f"{figure:.4f}" if np.isfinite(figure) else "undefined"
    return RuleOutcome(name=name, needed=f"{sign} {limit:g}", found=found, passed=bool(holds), n=n)


def figure_of(rule: GateRule, report: Mapping[str, Any]) -> tuple[float, int]:
    """The figure that a rule speaks of, and the number of cases or folds behind it."""
    if report["scores"].get(rule.metric, 0) is None:
        return float("nan"), 0
    if rule.metric not in report["scores"]:
        raise UnknownName("gate.rules.metric", rule.metric, report["scores"])
    place, _, rest = rule.metric.partition("_")
    if place == "test":
        source, key = report["test"][rest], str(rule.bound)
    else:
        name, _, key = rest.rpartition("_")
        source = report["cross_validation"][name]
        if rule.bound != "value":
            if key != "mean":
                raise UserError(
                    "a bound exists only for a mean or a test figure",
                    found=f"{rule.metric} with bound {rule.bound}",
                    hint="use `bound: value`",
                )
            key = rule.bound
    value = source[key]
    return float("nan") if value is None else float(value), int(source["n"])
