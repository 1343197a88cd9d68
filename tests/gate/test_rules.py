"""The gate applies rules to a report, and an undefined figure passes none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from medloop.case import Verdict
from medloop.errors import UnknownName, UserError
from medloop.gate.against_champion import Opponent, subgroup_masks
from medloop.gate.predictions import Predictions
from medloop.gate.rules import Evidence, judge
from medloop.metrics import METRICS
from medloop.metrics.view import one_hot
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
def test_a_rule_passes_or_fails(rule: GateRule, passed: bool) -> None:
    decided = verdict(rule)
    assert decided.passed is passed
    assert [one.name for one in decided.rules[:3]] == FIRST_THREE
    assert decided.rules[3].passed is passed


def test_the_outcome_of_a_rule_has_the_limit_the_figure_and_the_number_of_cases() -> None:
    rule = verdict(GateRule(metric="test_recall", at_least=0.95, bound="lower")).rules[3]
    assert (rule.name, rule.needed, rule.found, rule.n) == ("test_recall, lower bound", ">= 0.95", "0.8400", 43)


def test_one_failed_rule_refuses_the_bundle() -> None:
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


def test_an_unknown_figure_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'cv_recall_mean'"):
        verdict(GateRule(metric="cv_recal_mean", at_least=0.9))


def test_a_deviation_has_no_bounds() -> None:
    with pytest.raises(UserError, match="cv_recall_std has no upper bound"):
        verdict(GateRule(metric="cv_recall_std", at_most=0.1, bound="upper"))


def test_without_rules_only_the_binding_is_checked() -> None:
    assert verdict().passed


def measured(value: float, lower: float, n: int, method: str) -> dict[str, Any]:
    figure = {"value": value, "lower": lower, "upper": 1.0, "n": n, "method": method}
    return {**REPORT, "test": {"recall": figure}, "scores": {"test_recall": value}}


@pytest.mark.parametrize(
    ("report", "note"),
    [
        (
            measured(0.953, 0.845, 43, "Wilson"),
            "too few cases: at least 127 are needed (there are 43) for 80% power, assuming that 0.953 is the true",
        ),
        (measured(0.953, 0.845, 43, "percentile bootstrap"), "too few cases: at least 193 are needed (there are 43)"),
        (measured(0.85, 0.7, 43, "Wilson"), ""),
    ],
    ids=["a share", "patients drawn whole", "below the floor itself"],
)
def test_a_bound_below_the_limit_states_the_number_of_cases_it_needs(report: dict[str, Any], note: str) -> None:
    rule = verdict(GateRule(metric="test_recall", at_least=0.88, bound="lower"), report=report).rules[3]
    assert not rule.passed
    assert rule.note.startswith(note)
    assert bool(rule.note) is bool(note)


def test_the_number_of_cases_needed_grows_with_the_power() -> None:
    report = measured(0.953, 0.845, 43, "Wilson")
    rules = (GateRule(metric="test_recall", at_least=0.88, bound="lower"),)
    notes = [
        judge(report, GateSection(rules=rules, power=power), bundle="b" * 64, edition="e" * 16).rules[3].note
        for power in (0.5, 0.95)
    ]
    few, many = (int(note.split("at least ")[1].split(" ")[0]) for note in notes)
    assert few < many


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (["F"] * 30 + ["M"] * 30, ["F", "M"]),
        (["F"] * 50 + ["M"] * 10, ["F", "M"]),
        (["a"] * 40 + ["b"] * 10 + ["c"] * 5 + [None] * 5, ["a", "b or c or unknown"]),
    ],
    ids=["two", "one small", "small ones together"],
)
def test_subgroups_of_few_patients_are_pooled(values: list[str | None], names: list[str]) -> None:
    parts = subgroup_masks(values, np.arange(60))
    assert list(parts) == names
    assert sum(mask.sum() for mask in parts.values()) == 60


def test_a_worse_subgroup_is_found_despite_a_better_total() -> None:
    rng = np.random.default_rng(0)
    truth = np.ones(2000, dtype=np.int64)
    women = np.arange(2000) < 400

    def decided(recall: float, recall_of_women: float) -> Predictions:
        right = rng.random(2000) < np.where(women, recall_of_women, recall)
        shares = one_hot(right.astype(np.int64), 2)
        return Predictions(
            case_ids=tuple(map(str, range(2000))), groups=np.arange(2000), truth=truth, shares=shares, decisions=shares
        )

    challenger, champion = decided(0.97, 0.70), decided(0.85, 0.85)
    report = {
        **REPORT,
        "n_test": 2000,
        "accepted_findings": [],
        "test": {"accuracy": {"value": METRICS["accuracy"](truth, challenger.decisions)}},
    }
    rules = tuple(GateRule(metric="test_recall", not_worse_by=0.03, each=each) for each in (None, "sex"))
    evidence = Evidence(
        challenger=challenger,
        edition_cases=frozenset(challenger.case_ids),
        subgroups={"sex": ["F" if one else "M" for one in women]},
        opponent=Opponent(version=1, bundle="c" * 64, predictions=champion),
    )
    found = judge(report, GateSection(rules=rules), bundle="b" * 64, edition="e" * 16, evidence=evidence)
    assert {rule.name: rule.passed for rule in found.rules[4:]} == {
        "test_recall against the champion": True,
        "test_recall against the champion, sex F": False,
        "test_recall against the champion, sex M": True,
    }
    assert not found.passed


@pytest.mark.parametrize(
    "fields",
    [
        {"metric": "test_recall"},
        {"metric": "test_recall", "at_least": 0.9, "better_by": 0.0},
        {"metric": "cv_recall_mean", "better_by": 0.0},
        {"metric": "cv_recall_mean", "at_least": 0.9, "each": "sex"},
        {"metric": "test_recall", "not_worse_by": 0.1, "bound": "lower"},
        {"metric": "test_recall", "not_worse_by": 0.0},
        {"metric": "test_recall", "better_by": -0.1},
    ],
    ids=["no limit", "two limits", "folds", "folds by subgroup", "a bound", "no margin", "a negative gain"],
)
def test_an_incomplete_or_contradictory_rule_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        GateRule(**fields)
