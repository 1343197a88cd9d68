"""The page shows the report's results in words, whichever parts are missing."""

from __future__ import annotations

from typing import Any

import pytest

from medloop.evaluate.report import replace_nan
from medloop.evaluate.write.page import report_page


def page_of(report: dict[str, Any], **changes: Any) -> str:
    return report_page({**report, **changes}, {})


def figure(value: float, lower: float, upper: float) -> dict[str, Any]:
    return {"value": value, "lower": lower, "upper": upper, "n": 43, "note": ""}


def test_the_first_figures_are_natural_frequencies(report: dict[str, Any]) -> None:
    recall = report["test"]["recall"]
    assert f"{100 * recall['value']:.0f} [{100 * recall['lower']:.0f}, {100 * recall['upper']:.0f}]" in page_of(report)


@pytest.mark.parametrize(
    ("slope", "shift", "verdict"),
    [
        ((1.0, 0.8, 1.2), (0.0, -0.2, 0.2), "no miscalibration detected"),
        ((0.6, 0.4, 0.8), (0.0, -0.2, 0.2), "over-confident"),
        ((-1.6, -1.8, -1.4), (0.4, 0.2, 0.6), "probabilities inversely related to the outcome"),
        ((1.6, 1.4, 1.8), (0.0, -0.2, 0.2), "under-confident"),
        ((1.0, 0.8, 1.2), (0.4, 0.2, 0.6), "risk underestimated"),
        ((1.0, 0.8, 1.2), (-0.4, -0.6, -0.2), "risk overestimated"),
        ((1.0, float("nan"), float("nan")), (0.0, -0.2, 0.2), "not assessable"),
        ((1.0, float("nan"), float("nan")), (-3.2, -4.6, -2.4), "risk overestimated"),
    ],
    ids=["good", "over-confident", "reversed", "under-confident", "low", "high", "unknown", "high without slope"],
)
def test_calibration_is_described_in_words(
    slope: tuple[float, float, float], shift: tuple[float, float, float], verdict: str, report: dict[str, Any]
) -> None:
    test = {**report["test"], "calibration_slope": figure(*slope), "calibration_intercept": figure(*shift)}
    assert f"<strong>{verdict}</strong>" in page_of(replace_nan({**report, "test": test}))


def test_optional_results_have_their_sections(report: dict[str, Any]) -> None:
    area = figure(0.7, 0.6, 0.8)
    band = {"n": 9, "counts": {"benign": 4, "malignant": 5}}
    band["figures"] = dict.fromkeys(("accuracy", "recall", "specificity", "roc_auc"), area)
    one = dict.fromkeys(("recall", "specificity", "precision", "roc_auc"), area)
    gain = {"roc_auc": {"difference": 0.2, "lower": 0.1, "upper": 0.3}}
    page = page_of(
        report,
        subgroups={"sex": {"f": band}},
        by_class={"cyst": one},
        over_classes={"accuracy": area},
        class_counts={"cyst": 12},
        at_prevalence={"prevalence": 0.02, "ppv": area, "npv": area},
        beside={"name": "untrained network", "says": "Random.", "figures": {"roc_auc": area}, "gain": gain},
    )
    for text in ("sex f", "4 / 5", "cyst", "At a prevalence of 2.0%", "untrained network", "0.200 [0.100"):
        assert text in page, text


def test_the_image_of_an_error_has_its_true_and_predicted_class(report: dict[str, Any]) -> None:
    row = {"case_id": "c1", "label": "benign", "decided": "malignant", "probability_of_label": 0.1}
    row |= {"probability_of_decided": 0.9, "abstained": True, "reason": "far"}
    page = report_page({**report, "most_wrong": [row]}, {}, wrong=[b"\xff\xd8picture"])
    assert "c1: benign (probability 10.0%), predicted malignant (90.0%); the service abstains (far)" in page
    assert "data:image/jpeg;base64," in page


def test_no_value_of_the_report_becomes_markup(report: dict[str, Any]) -> None:
    hostile = "<script>alert(1)</script>"
    row = {"case_id": hostile, "label": hostile, "decided": hostile, "probability_of_label": 0.1}
    row |= {"probability_of_decided": 0.9, "abstained": True, "reason": hostile}
    changes = {"name": hostile, "positive": [hostile], "git_commit": hostile, "most_wrong": [row]}
    for page in (page_of(report, **changes), report_page({**report, **changes}, {}, wrong=[b"\xff\xd8"])):
        assert hostile not in page
        assert "&lt;script&gt;" in page
