"""The gate holds rules against a report, and an undefined figure passes none."""

from __future__ import annotations

from typing import Any

import pytest

from medloop.case import Verdict
from medloop.errors import UnknownName, UserError
from medloop.evaluate.gate import judge
from medloop.recipe import GateRule, GateSection

REPORT: dict[str, Any] = {
    "bundle": "b" * 64,
    "edition": "e" * 16,
    "smoke": False,
    "test": {"recall": {"value": 0.953, "lower": 0.84, "upper": 0.99, "n": 43}},
    "cross_validation": {
        "recall": {"mean": 0.95, "std": 0.05, "value": 0.95, "lower": 0.91, "upper": 0.98, "n": 10},
        "roc_auc": {"mean": None, "std": None, "value": None, "lower": None, "upper": None, "n": 0},
    },
    "scores": {
        "test_recall": 0.953,
        "cv_recall_mean": 0.95,
        "cv_recall_std": 0.05,
        "cv_roc_auc_mean": None,
        "cv_roc_auc_std": None,
    },
}
FIRST_THREE = ["the report is of this bundle", "the report is of this edition", "not a smoke run"]


def verdict(*rules: GateRule, report: dict[str, Any] = REPORT, **facts: str) -> Verdict:
    known = {"bundle": "b" * 64, "edition": "e" * 16, **facts}
    return judge(report, GateSection(rules=rules), bundle=known["bundle"], edition=known["edition"])


@pytest.mark.parametrize(
    ("rule", "passed"),
    [
        (GateRule(metric="cv_recall_mean", at_least=0.95), True),
        (GateRule(metric="cv_recall_mean", at_least=0.9501), False),
        (GateRule(metric="cv_recall_std", at_most=0.05), True),
        (GateRule(metric="cv_recall_std", at_most=0.0499), False),
        (GateRule(metric="test_recall", at_least=0.95), True),
        (GateRule(metric="test_recall", at_least=0.95, bound="lower"), False),
        (GateRule(metric="test_recall", at_least=0.98, bound="upper"), True),
        (GateRule(metric="cv_recall_mean", at_least=0.9, bound="lower"), True),
        (GateRule(metric="cv_recall_mean", at_most=0.97, bound="upper"), False),
    ],
)
def test_a_rule_holds_or_it_does_not(rule: GateRule, passed: bool) -> None:
    decided = verdict(rule)
    assert decided.passed is passed
    assert [one.name for one in decided.rules[:3]] == FIRST_THREE
    assert decided.rules[3].passed is passed


def test_a_rule_says_what_was_needed_what_was_found_and_on_how_many() -> None:
    rule = verdict(GateRule(metric="test_recall", at_least=0.95, bound="lower")).rules[3]
    assert (rule.name, rule.needed, rule.found, rule.n) == ("test_recall, lower bound", ">= 0.95", "0.8400", 43)


def test_one_broken_rule_is_enough() -> None:
    rules = [GateRule(metric="test_recall", at_least=low) for low in (0.1, 0.2, 0.99, 0.3)]
    decided = verdict(*rules)
    assert not decided.passed
    assert [rule.passed for rule in decided.rules[3:]] == [True, True, False, True]


@pytest.mark.parametrize("limit", [{"at_least": 0.0}, {"at_most": 1.0}])
def test_an_undefined_figure_passes_no_rule(limit: dict[str, float]) -> None:
    rule = verdict(GateRule(metric="cv_roc_auc_mean", **limit)).rules[3]  # type: ignore[arg-type]
    assert (rule.passed, rule.found) == (False, "undefined")


def test_a_smoke_run_never_passes() -> None:
    decided = verdict(report={**REPORT, "smoke": True})
    assert (decided.passed, decided.smoke) == (False, True)


@pytest.mark.parametrize(("fact", "place"), [({"bundle": "c" * 64}, 0), ({"edition": "f" * 16}, 1)])
def test_a_report_of_another_bundle_or_edition_never_passes(fact: dict[str, str], place: int) -> None:
    decided = verdict(GateRule(metric="test_recall", at_least=0.1), **fact)
    assert not decided.passed
    assert [rule.passed for rule in decided.rules].index(False) == place


def test_an_unknown_figure_is_told_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'cv_recall_mean'"):
        verdict(GateRule(metric="cv_recal_mean", at_least=0.9))


def test_a_deviation_has_no_bounds() -> None:
    with pytest.raises(UserError, match="a bound exists only for a mean or a test figure"):
        verdict(GateRule(metric="cv_recall_std", at_most=0.1, bound="upper"))


def test_without_rules_only_the_binding_is_checked() -> None:
    assert verdict().passed
