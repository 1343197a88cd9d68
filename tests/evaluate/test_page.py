"""The page says in plain words what the report holds, whatever is missing."""

from __future__ import annotations

from typing import Any

import pytest

from medloop.evaluate.page import report_page
from medloop.evaluate.report import defined


def shown(report: dict[str, Any], **changes: Any) -> str:
    return report_page({**report, **changes}, {})


def figure(value: float, lower: float, upper: float) -> dict[str, Any]:
    return {"value": value, "lower": lower, "upper": upper, "n": 43, "note": ""}


def test_the_first_figures_are_natural_frequencies(report: dict[str, Any]) -> None:
    recall = report["test"]["recall"]
    assert f"{100 * recall['value']:.0f} [{100 * recall['lower']:.0f}, {100 * recall['upper']:.0f}]" in shown(report)


@pytest.mark.parametrize(
    ("slope", "shift", "said"),
    [
        ((1.0, 0.8, 1.2), (0.0, -0.2, 0.2), "no miscalibration detected"),
        ((0.6, 0.4, 0.8), (0.0, -0.2, 0.2), "over-confident"),
        ((-1.6, -1.8, -1.4), (0.4, 0.2, 0.6), "probabilities run against the outcome"),
        ((1.6, 1.4, 1.8), (0.0, -0.2, 0.2), "under-confident"),
        ((1.0, 0.8, 1.2), (0.4, 0.2, 0.6), "risk underestimated"),
        ((1.0, 0.8, 1.2), (-0.4, -0.6, -0.2), "risk overestimated"),
        ((1.0, float("nan"), float("nan")), (0.0, -0.2, 0.2), "not assessable"),
        ((1.0, float("nan"), float("nan")), (-3.2, -4.6, -2.4), "risk overestimated"),
    ],
    ids=["right", "extreme", "reversed", "timid", "low", "high", "unknown", "no slope but high"],
)
def test_calibration_is_put_into_words(
    slope: tuple[float, float, float], shift: tuple[float, float, float], said: str, report: dict[str, Any]
) -> None:
    test = {**report["test"], "calibration_slope": figure(*slope), "calibration_intercept": figure(*shift)}
    assert f"<strong>{said}</strong>" in shown(defined({**report, "test": test}))


def test_what_was_measured_besides_has_its_section(report: dict[str, Any]) -> None:
    area = figure(0.7, 0.6, 0.8)
    band = {"n": 9, "counts": {"benign": 4, "malignant": 5}}
    band["figures"] = dict.fromkeys(("accuracy", "recall", "specificity", "roc_auc"), area)
    one = dict.fromkeys(("recall", "specificity", "precision", "roc_auc"), area)
    gain = {"roc_auc": {"difference": 0.2, "lower": 0.1, "upper": 0.3}}
    page = shown(
        report,
        subgroups={"sex": {"f": band}},
        by_class={"cyst": one},
        over_classes={"accuracy": area},
        class_counts={"cyst": 12},
        at_prevalence={"prevalence": 0.02, "ppv": area, "npv": area},
        beside={"name": "untrained network", "says": "Random.", "figures": {"roc_auc": area}, "gain": gain},
    )
    for text in ("sex f", "4 / 5", "cyst", "Where 2.0% of the cases are positive", "untrained network", "0.200 [0.100"):
        assert text in page, text


def test_a_picture_of_a_wrong_case_says_what_it_is_and_was_taken_for(report: dict[str, Any]) -> None:
    row = {"case_id": "c1", "label": "benign", "decided": "malignant", "probability_of_label": 0.1}
    row |= {"probability_of_decided": 0.9, "abstained": True, "reason": "far"}
    page = report_page({**report, "most_wrong": [row]}, {}, wrong=[b"\xff\xd8picture"])
    assert "c1: is benign (given 10.0%), was decided malignant (90.0%); the service gives no class (far)" in page
    assert "data:image/jpeg;base64," in page
