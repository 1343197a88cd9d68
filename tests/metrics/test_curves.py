"""Predictive values, decision curves and risk against coverage, worked out by hand."""

from __future__ import annotations

from math import isnan
from typing import Any

import numpy as np
import pytest

from medloop.errors import UserError
from medloop.metrics.curves import (
    net_benefit,
    net_benefit_of_cases,
    npv_at_prevalence,
    ppv_at_prevalence,
    precision_recall_points,
    risk_coverage,
    roc_points,
)


def test_a_good_test_of_a_rare_disease_is_mostly_wrong_when_positive() -> None:
    # Of 10,000 people 100 are ill: 90 found, 495 false alarms, 10 missed, 9405 cleared.
    assert ppv_at_prevalence(0.9, 0.95, 0.01) == pytest.approx(90 / 585)
    assert npv_at_prevalence(0.9, 0.95, 0.01) == pytest.approx(9405 / 9415)


def test_predictive_values_at_the_edges() -> None:
    assert ppv_at_prevalence(0.9, 0.9, 0.0) == 0
    assert ppv_at_prevalence(0.9, 0.9, 1.0) == 1
    assert isnan(ppv_at_prevalence(0.0, 1.0, 0.5))


@pytest.mark.parametrize("shares", [(90, 0.9, 0.1), (0.9, -0.1, 0.1), (0.9, 0.9, float("nan"))])
def test_a_share_beyond_one_is_refused(shares: tuple[float, float, float]) -> None:
    with pytest.raises(UserError, match="not from 0 to 1"):
        ppv_at_prevalence(*shares)


def test_net_benefit_by_hand() -> None:
    y, p = np.array([1, 1, 0, 0, 0]), np.array([0.9, 0.2, 0.5, 0.2, 0.1])
    curve = net_benefit(y, p, [0.0, 0.2, 0.5, 0.95])
    assert curve.model == pytest.approx([2 / 5, 2 / 5 - 2 / 5 * 0.25, 1 / 5 - 1 / 5, 0])
    assert curve.treat_all == pytest.approx([2 / 5, 2 / 5 - 3 / 5 * 0.25, 2 / 5 - 3 / 5, 2 / 5 - 3 / 5 * 19])


def test_net_benefit_of_no_cases_is_nan() -> None:
    assert np.isnan(net_benefit(np.zeros(0, dtype=int), np.zeros(0), [0.1]).model).all()


@pytest.mark.parametrize(
    ("p", "thresholds"), [([0.5, 0.5], [1.0]), ([0.5, 0.5], [-0.1]), ([2.0, -1.0], [0.5]), ([0.5], [0.5])]
)
def test_net_benefit_of_invalid_numbers_is_refused(p: Any, thresholds: Any) -> None:
    with pytest.raises(UserError):
        net_benefit(np.array([0, 1]), p, thresholds)


def test_risk_falls_as_the_unsure_cases_are_left_out() -> None:
    curve = risk_coverage(np.array([False, False, False, True, False]), np.array([0.95, 0.9, 0.9, 0.6, 0.6]))
    assert curve.confidence == pytest.approx([0.95, 0.9, 0.6])
    assert curve.coverage == pytest.approx([1 / 5, 3 / 5, 1])
    assert curve.risk == pytest.approx([0, 0, 1 / 5])


def test_risk_of_no_cases_is_an_empty_curve() -> None:
    assert risk_coverage(np.zeros(0, dtype=bool), np.zeros(0)).risk.size == 0


@pytest.mark.parametrize("confidence", [[0.5], [0.5, float("nan")], [[0.5, 0.5]]], ids=["short", "nan", "flat"])
def test_a_case_without_a_confidence_is_refused(confidence: Any) -> None:
    with pytest.raises(UserError, match="confidences have shape"):
        risk_coverage([True, False], confidence)


def test_the_mean_of_what_each_case_adds_is_the_net_benefit() -> None:
    rng = np.random.default_rng(0)
    y, p, at = rng.integers(0, 2, 50), rng.random(50), [0.0, 0.2, 0.7]
    assert net_benefit_of_cases(y, p, at).mean(axis=0) == pytest.approx(net_benefit(y, p, at).model)


def test_the_points_of_the_curves_belong_to_thresholds_and_enclose_the_areas() -> None:
    truth, score = np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8])
    false, true = roc_points(truth, score)
    assert (false.tolist(), true.tolist()) == ([0, 0, 0.5, 0.5, 1], [0, 0.5, 0.5, 1, 1])
    precision, recall = precision_recall_points(truth, score)
    assert recall.tolist() == [1, 1, 0.5, 0.5, 0]
    assert precision == pytest.approx([1 / 2, 2 / 3, 1 / 2, 1, 1])
