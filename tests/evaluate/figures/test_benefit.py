"""Predictive values at a prevalence, and decision curves with their intervals."""

from __future__ import annotations

import pytest

from medloop.evaluate.figures.benefit import (
    TABLE_THRESHOLDS,
    benefit_points,
    benefit_rows,
    predictive_values_at_prevalence,
)
from medloop.metrics.curves import npv_at_prevalence, ppv_at_prevalence
from medloop.recipe import EvaluateSection
from tests.evaluate.made_up import decider, drawn, measured

SECTION = EvaluateSection(draws=200, prevalence=0.02)


def test_predictive_values_are_those_of_the_measured_sensitivity_and_specificity() -> None:
    y, shares = drawn(500)
    cases = measured(y, shares)
    right = cases.chosen == cases.truth
    rates = (right[y == 1].mean(), right[y == 0].mean(), 0.02)
    found = predictive_values_at_prevalence(cases, SECTION)
    assert found is not None
    assert found["ppv"]["value"] == pytest.approx(ppv_at_prevalence(*rates))
    assert found["npv"]["value"] == pytest.approx(npv_at_prevalence(*rates))
    assert found["ppv"]["lower"] < found["ppv"]["value"] < found["ppv"]["upper"]


def test_without_a_prevalence_or_a_positive_class_there_are_no_predictive_values() -> None:
    three = decider(classes=("a", "b", "c"), positive=())
    assert predictive_values_at_prevalence(measured(*drawn(50)), EvaluateSection(draws=100)) is None
    assert predictive_values_at_prevalence(measured([0, 1, 2], [[0.5, 0.3, 0.2]] * 3, judge=three), SECTION) is None
    assert benefit_rows(measured([0, 1, 2], [[0.5, 0.3, 0.2]] * 3, judge=three), SECTION) == []


def test_a_calibrated_model_gains_over_all_and_none() -> None:
    rows = benefit_rows(measured(*drawn(1500)), SECTION)
    assert [row["threshold"] for row in rows] == list(TABLE_THRESHOLDS)
    middle = next(row for row in rows if row["threshold"] == 0.5)
    assert middle["gain"]["lower"] > 0
    assert middle["gain"]["value"] == pytest.approx(middle["model"]["value"] - max(middle["treat_all"], 0))


def test_the_decision_curve_starts_with_treating_all_and_lies_within_its_interval() -> None:
    cases = measured(*drawn(300))
    points = benefit_points(cases, SECTION)
    assert points[0]["model"] == pytest.approx(points[0]["treat_all"], abs=0.01)
    assert all(point["lower"] <= point["model"] + 1e-9 and point["model"] <= point["upper"] + 1e-9 for point in points)
    assert benefit_points(measured([1, 1], [0.2, 0.8]), SECTION) == []
