"""The abstention rate, the accuracy on the other cases, and the coverage of the conformal sets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from medloop.bundle.calibrate import conformal_quantiles
from medloop.evaluate.figures.abstention import abstention, confidence, conformal, risk_points, risk_rows
from medloop.recipe import EvaluateSection
from tests.evaluate.made_up import TWO, decider, drawn, measured

SECTION = EvaluateSection(draws=100)


def test_abstentions_are_counted_with_their_reasons_and_the_rest_is_measured() -> None:
    found = abstention(measured([0, 1, 1, 0], [0.1, 0.45, 0.9, 0.8], judge=decider(conformal=(0.6, 0.6))), TWO)
    assert (found["n"], found["share"]) == (1, 0.25)
    assert found["reasons"] == {"too close to call": 1}
    assert found["accuracy_of_the_rest"] == found["rest_interval"]["value"] == pytest.approx(2 / 3)
    assert found["silent_interval"]["n"] == 1
    assert found["conformal_coverage"] == {"no": 0.5, "yes": 1.0}


def test_without_any_result_there_is_no_accuracy_of_the_rest() -> None:
    found = abstention(measured([0, 1], [0.4, 0.6], judge=decider(conformal=(0.9, 0.9))), TWO)
    assert found["accuracy_of_the_rest"] is None
    assert np.isnan(found["rest_interval"]["value"])


def test_confidence_is_zero_at_the_threshold_and_one_at_certainty() -> None:
    judge = decider(threshold=0.2)
    found = confidence(measured([0] * 5, [0.0, 0.1, 0.2, 0.6, 1.0], judge=judge), 0.2)
    assert found == pytest.approx([1, 0.5, 0, 0.5, 1])


def test_confidence_without_a_threshold_is_the_largest_probability() -> None:
    judge = decider(classes=("a", "b", "c"), positive=())
    assert confidence(measured([0], [[0.2, 0.5, 0.3]], judge=judge), None) == pytest.approx([0.5])


def test_risk_falls_as_uncertain_cases_are_left_out() -> None:
    y, shares = drawn(2000)
    rows = risk_rows(measured(y, shares), 0.5)
    risks = [row["risk"]["value"] for row in rows]
    assert [row["coverage"] for row in rows] == pytest.approx([1, 0.95, 0.9, 0.8, 0.7, 0.5], abs=1e-3)
    assert risks[0] > risks[2] > risks[-1]
    assert all(row["risk"]["lower"] <= row["risk"]["value"] <= row["risk"]["upper"] for row in rows)
    assert risk_points(measured(y, shares), 0.5)[-1]["risk"] == pytest.approx(risks[0])


def test_sets_cover_every_class_within_the_binomial_band() -> None:
    classes, rng = ("a", "b", "c"), np.random.default_rng(5)
    y = rng.choice(3, 9000, p=[0.6, 0.3, 0.1])
    logits = rng.normal(size=(9000, 3)) + 1.2 * np.eye(3)[y]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    quantiles = tuple(conformal_quantiles(p[:6000], y[:6000], alpha=0.1))
    judge = decider(classes=classes, positive=("b",), conformal=quantiles, threshold=0.2)
    found = conformal(measured(y[6000:], p[6000:], judge=judge), judge, SECTION)
    assert found["promised"] == pytest.approx(0.9)
    for name, row in found["by_class"].items():
        # The decided class joins the set, so it may cover more often but not less.
        assert row["coverage"]["value"] * row["n"] >= binom.ppf(0.001, row["n"], 0.9 - 0.02), name
        assert 1 <= row["set_size"]["lower"] <= row["set_size"]["value"] <= row["set_size"]["upper"] <= 3
    assert found["pooled"] is None


def test_tiny_classes_are_pooled_by_name() -> None:
    classes, rng = ("a", "b", "c"), np.random.default_rng(6)
    y = np.repeat([0, 1, 2], [60, 4, 5])
    judge = decider(classes=classes, positive=())
    found = conformal(measured(y, rng.dirichlet([1, 1, 1], 69), judge=judge), judge, SECTION)
    assert (found["pooled"]["classes"], found["pooled"]["n"]) == (["b", "c"], 9)


def test_a_class_is_tiny_by_its_number_of_patients() -> None:
    y, shares = np.repeat([0, 1], 60), np.full(120, 0.5)
    judge = replace(decider(), conformal_alpha=0.2)
    few = conformal(measured(y, shares, judge=judge, groups=[f"p{k // 10}" for k in range(120)]), judge, SECTION)
    assert few["pooled"]["classes"] == ["no", "yes"]
