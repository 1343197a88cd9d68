"""Every plot is drawn, even with undefined or missing results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medloop.evaluate.figures.abstention import abstention, risk_points, risk_rows
from medloop.evaluate.figures.benefit import benefit_points
from medloop.evaluate.write import plots, plots_in_use
from medloop.recipe import EvaluateSection
from tests.evaluate.made_up import TWO, decider, drawn, measured

PNG = b"\x89PNG"
UNKNOWN = {"value": None, "lower": None, "upper": None, "n": 0}
KNOWN = {"value": 0.8, "lower": 0.7, "upper": 0.9, "n": 20}


def report_with(**changes: Any) -> dict[str, Any]:
    test = dict.fromkeys(("roc_auc", "pr_auc", "recall", "specificity", "precision"), KNOWN)
    return {"test": test, "test_counts": {"no": 10, "yes": 10}, "by_class": {}, **changes}


def test_each_reliability_bin_has_an_interval() -> None:
    points = plots.curves(measured(*drawn(300)))["reliability"]
    assert sum(point["n"] for point in points) == 300
    assert all(point["lower"] <= point["observed"] <= point["upper"] for point in points)
    assert plots.reliability(points).startswith(PNG)


@pytest.mark.parametrize("undefined", [False, True], ids=["defined", "undefined"])
def test_curves_are_drawn_with_the_threshold_or_without(undefined: bool) -> None:
    points = plots.curves(measured(*drawn(60)))
    report = report_with(test=dict.fromkeys(report_with()["test"], UNKNOWN)) if undefined else report_with()
    assert plots.roc(points["roc"], report).startswith(PNG)
    assert plots.precision_recall(points["precision_recall"], report).startswith(PNG)


def test_many_classes_share_the_axes() -> None:
    judge = decider(classes=("a", "b", "c"), positive=())
    shares = np.random.default_rng(0).dirichlet([1, 1, 1], 60)
    cases = measured(np.arange(60) % 3, shares, judge=judge)
    points, report = plots.curves(cases), report_with(test_counts={"a": 20, "b": 20, "c": 20})
    assert {point["class"] for point in points["roc"]} == {"a", "b", "c"}
    assert plots.roc(points["roc"], report).startswith(PNG)
    assert plots.reliability(points["reliability"]).startswith(PNG)
    assert plots.confusion_matrix(("a", "b", "c"), plots.matrix(cases)).startswith(PNG)


def test_one_class_alone_has_no_curve_but_a_picture() -> None:
    points = plots.curves(measured([1, 1], [0.2, 0.8]))
    assert points == {"roc": [], "precision_recall": [], "reliability": []}
    assert plots.roc(points["roc"], report_with()).startswith(PNG)


def test_net_benefit_and_abstention_are_drawn() -> None:
    cases = measured(*drawn(100))
    assert plots_in_use.decision_curve(benefit_points(cases, EvaluateSection(draws=100))).startswith(PNG)
    rows, points = risk_rows(cases, 0.5), risk_points(cases, 0.5)
    assert plots_in_use.risk_against_coverage(points, rows, abstention(cases, TWO)).startswith(PNG)


def test_a_forest_plot_has_a_line_for_each_subgroup() -> None:
    bands = {"sex": {"f": {"n": 9, "figures": {"roc_auc": KNOWN}}, "m": {"n": 1, "figures": {"roc_auc": UNKNOWN}}}}
    picture = plots_in_use.forest(bands, KNOWN, "roc_auc", title="AUC")
    assert picture.startswith(PNG)
    assert picture != plots_in_use.forest({}, KNOWN, "roc_auc", title="AUC")


def test_a_long_class_name_is_wrapped() -> None:
    assert plots.wrap("adenocarcinoma or large_cell or squamous").split("\n") == [
        "adenocarcinoma or",
        "large_cell or",
        "squamous",
    ]
