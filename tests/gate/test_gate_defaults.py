"""The default rules refuse a constant decision, frequent abstention, and classes that are too small for any model."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.gate_models import Edition, Model, drawn
from benchmarks.gate_noise import BUNDLE, EDITION, report_of
from medloop.case import RuleOutcome, Verdict
from medloop.cli.project import make_project
from medloop.gate.against_champion import Opponent
from medloop.gate.predictions import Predictions
from medloop.gate.rules import Evidence, judge
from medloop.metrics.intervals.by_metric import interval_for
from medloop.metrics.intervals.proportions import wilson
from medloop.metrics.view import one_hot
from medloop.recipe import GateRule, GateSection, load_recipe
from medloop.scaffold.project import LIKE

Report = dict[str, Any]


def decided(truth: Any, choices: Any, *, classes: int = 2) -> Predictions:
    """Return predictions of maximal confidence."""
    shares = one_hot(np.asarray(choices), classes) * 0.98 + 0.01 * (classes > 1) * (2 / classes)
    shares /= shares.sum(axis=1, keepdims=True)
    n = len(truth)
    return Predictions(
        case_ids=tuple(map(str, range(n))),
        groups=np.arange(n),
        truth=np.asarray(truth),
        shares=shares,
        decisions=one_hot(np.asarray(choices), classes),
    )


def judged(answers: Predictions, section: GateSection, report: Report | None = None, **evidence: Any) -> Verdict:
    found = report_of(answers, section) if report is None else report
    cases = Evidence(challenger=answers, edition_cases=frozenset(answers.case_ids), **evidence)
    return judge(found, section, bundle=BUNDLE, edition=EDITION, evidence=cases)


def rule_of(verdict: Verdict, name: str) -> RuleOutcome:
    return next(rule for rule in verdict.rules if rule.name == name)


def section_of(like: str | None, folder: Path) -> GateSection:
    return GateSection() if like is None else load_recipe(make_project(folder / "mine", like=like)).gate


def with_folds(report: Report, *, recall: float, deviation: float) -> Report:
    """As the rules of the tutorials want it."""
    figure = {"mean": recall, "std": deviation, "value": recall, "lower": recall, "upper": recall, "n": 10}
    scores = {**report["scores"], "cv_recall_mean": recall, "cv_recall_std": deviation}
    return {**report, "cross_validation": {"recall": figure}, "scores": scores}


TEMPLATES = pytest.mark.parametrize("like", [None, *LIKE], ids=str)


@TEMPLATES
def test_a_constant_decision_is_refused_by_every_template(like: str | None, tmp_path: Path) -> None:
    section, truth = section_of(like, tmp_path), np.repeat([0, 1], [18, 582])
    majority = decided(truth, np.ones(600, dtype=np.int64))
    report = with_folds(report_of(majority, section), recall=1.0, deviation=0.0)
    verdict = judged(majority, section, report)
    assert not verdict.passed
    for name in ("test_roc_auc, lower bound", "test_balanced_accuracy, lower bound"):
        assert not rule_of(verdict, name).passed


@TEMPLATES
def test_a_model_that_abstains_on_most_cases_is_refused(like: str | None, tmp_path: Path) -> None:
    section, truth = section_of(like, tmp_path), np.tile([0, 1], 150)
    perfect = decided(truth, truth)
    report = with_folds(report_of(perfect, section), recall=1.0, deviation=0.0)
    assert judged(perfect, section, report).passed
    silent = {**report, "abstained": {"n": 276, "share": 0.92, "share_interval": asdict(wilson(276, 300))}}
    refused = [rule for rule in judged(perfect, section, silent).rules if not rule.passed]
    assert [(rule.name, rule.n) for rule in refused] == [("test_abstention_rate, upper bound", 300)]
    of_before = {**report, "n_test": 300, "abstained": {"n": 276}}
    again = [rule for rule in judged(perfect, section, of_before).rules if not rule.passed]
    assert [rule.found for rule in again] == [rule.found for rule in refused]


@TEMPLATES
def test_every_template_has_a_margin_and_the_tutorial_rules_are_kept(like: str | None, tmp_path: Path) -> None:
    rules = section_of(like, tmp_path).rules
    assert any(rule.not_worse_by is not None for rule in rules)
    tutorial = {(rule.metric, rule.limit) for rule in rules if rule.metric.startswith("cv_recall")}
    assert tutorial == ({("cv_recall_mean", 0.95), ("cv_recall_std", 0.05)} if like == "breast-cancer" else set())


def test_a_limit_that_no_model_could_reach_is_noted_with_the_number_of_cases_needed() -> None:
    section = GateSection(rules=(GateRule(metric="test_recall", at_least=0.9, bound="lower"),))
    truth = np.repeat([0, 1], [111, 9])
    (rule,) = judged(decided(truth, truth), section).rules[4:]
    assert rule.note.startswith("too few cases for any model: even a perfect one would have a lower bound of 0.701")
    n = int(rule.note.partition("at least ")[2].split()[0].replace(",", ""))
    positives = round(n * 9 / 120)
    assert wilson(positives, positives).lower >= 0.9 > wilson(positives - 2, positives - 2).lower


def test_a_limit_that_more_cases_would_reach_states_how_many() -> None:
    section = GateSection(rules=(GateRule(metric="test_roc_auc", at_least=0.9, bound="lower"),))
    edition = Edition(name="", positives=43, negatives=71)
    answers = drawn(edition, Model(auc=0.95), Model(), np.random.default_rng(1))[0]
    (rule,) = judged(answers, section).rules[4:]
    found = interval_for("roc_auc", answers.truth, answers.shares)
    assert found.lower < 0.9 < found.value
    assert "too few cases: at least " in rule.note
    assert f"for 80% power, assuming that {found.value:.3f} is the true value" in rule.note


def test_an_abstention_rate_above_the_limit_states_the_number_of_cases_needed() -> None:
    section = GateSection(rules=(GateRule(metric="test_abstention_rate", at_most=0.5, bound="upper"),))
    truth = np.tile([0, 1], 20)
    report = report_of(decided(truth, truth), section)
    report["abstained"] = {"n": 16, "share_interval": asdict(wilson(16, 40))}
    (rule,) = judged(decided(truth, truth), section, report).rules[4:]
    assert not rule.passed
    assert "too few cases: at least " in rule.note


CLASSES = np.tile([0, 1, 2], 60)
CONFUSED = np.where(CLASSES == 2, np.tile([1, 2], 90), CLASSES)


def by_class(choices: Any) -> Predictions:
    """Two of three classes are positive, so that to confuse these two is no fault in the positive view."""
    view = decided((CLASSES > 0).astype(np.int64), (np.asarray(choices) > 0).astype(np.int64))
    return replace(view, by_class=decided(CLASSES, choices, classes=3))


def test_a_rule_may_be_about_single_classes() -> None:
    whole, single = (GateRule(metric=name, at_least=0.95) for name in ("test_accuracy", "test_class_accuracy"))
    section, answers = GateSection(rules=(whole, single)), by_class(CONFUSED)
    assert answers.by_class is not None
    figure = asdict(interval_for("accuracy", CLASSES, answers.by_class.decisions))
    report = {**report_of(answers, section), "over_classes": {"accuracy": figure}}
    report["scores"]["test_class_accuracy"] = figure["value"]
    outcomes = judged(answers, section, report).rules[4:]
    assert [(rule.name, rule.passed) for rule in outcomes] == [("test_accuracy", True), ("test_class_accuracy", False)]


def test_a_loss_in_the_single_classes_is_seen_against_champion_and_reference() -> None:
    rules = tuple(GateRule(metric=name, not_worse_by=0.1) for name in ("test_accuracy", "test_class_accuracy"))
    opponents = {
        "opponent": Opponent(version=2, bundle="2", predictions=by_class(CONFUSED)),
        "reference": Opponent(version=1, bundle="1", predictions=by_class(CLASSES), role="reference version"),
    }
    verdict = judged(by_class(CONFUSED), GateSection(rules=rules), number=4, **opponents)
    assert {rule.name: rule.passed for rule in verdict.rules[4:]} == {
        "test_accuracy against the champion": True,
        "test_accuracy against the reference version": True,
        "test_class_accuracy against the champion": True,
        "test_class_accuracy against the reference version": False,
    }
