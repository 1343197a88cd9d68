"""The report holds what can be counted again from the test cases."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as reference

from medloop.bundle.predictor import Predictor
from medloop.case import Case
from medloop.data.manifest import case_of
from medloop.errors import UserError
from medloop.evaluate.figures.scores import flat_scores, fold_figures, measure_bundle
from medloop.evaluate.report import evaluate_bundle, replace_nan
from medloop.evaluate.statements.limits import limits
from medloop.evaluate.write.card import card
from medloop.evaluate.write.page import report_page
from medloop.metrics import METRICS
from medloop.recipe import EvaluateSection

PICTURES = ("confusion_matrix", "roc", "precision_recall", "reliability", "risk_coverage", "decision_curve")


@pytest.fixture(scope="module")
def predictor(finished: Path) -> Predictor:
    return Predictor.load(finished / "work" / "bundle")


@pytest.fixture(scope="module")
def cases(finished: Path) -> list[Case]:
    splits = pd.read_parquet(finished / "work" / "splits.parquet").query("part == 'test'")
    table = pd.read_parquet(finished / "work" / "cases.parquet").set_index("case_id", drop=False)
    return [case_of(row) for row in table.loc[splits["case_id"]].to_dict("records")]


def test_the_figures_are_those_of_the_positive_class_at_the_threshold_in_service(
    report: dict[str, Any], predictor: Predictor, cases: list[Case]
) -> None:
    answers = predictor.predict([case.values for case in cases])
    truth = np.array([case.label == "malignant" for case in cases])
    share = np.array([answer.probabilities["malignant"] for answer in answers])
    decided = share >= report["threshold"]["value"]
    expected = {
        "accuracy": reference.accuracy_score(truth, decided),
        "recall": reference.recall_score(truth, decided),
        "precision": reference.precision_score(truth, decided),
        "f1": reference.f1_score(truth, decided),
        "specificity": reference.recall_score(~truth, ~decided),
        "roc_auc": reference.roc_auc_score(truth, share),
        "brier": reference.brier_score_loss(truth, share),
    }
    assert {name: report["test"][name]["value"] for name in expected} == pytest.approx(expected, abs=1e-9)
    labels = [answer.label for answer in answers]
    assert labels.count(None) == report["abstained"]["n"]


def test_rows_of_the_confusion_matrix_are_the_truth(report: dict[str, Any], cases: list[Case], folder: Path) -> None:
    malignant = sum(case.label == "malignant" for case in cases)
    assert report["confusion"]["names"] == ["benign", "malignant"]
    assert [sum(row) for row in report["confusion"]["counts"]] == [len(cases) - malignant, malignant]
    missed = report["confusion"]["counts"][1][0]
    assert report["test"]["recall"]["value"] == pytest.approx(1 - missed / malignant)
    with (folder / "plots" / "confusion.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert sum(line == {"actual": "malignant", "predicted": "benign"} for line in lines) == missed


def test_every_metric_has_a_value_within_its_interval(report: dict[str, Any]) -> None:
    assert set(report["test"]) == set(report["cross_validation"]) == set(METRICS)
    for figure in report["test"].values():
        assert figure["lower"] <= figure["value"] <= figure["upper"]
        assert figure["n"] > 0
        assert figure["method"]


def test_the_folds_are_listed(report: dict[str, Any]) -> None:
    for figure in report["cross_validation"].values():
        assert len(figure["folds"]) == 3
        assert figure["mean"] == pytest.approx(np.mean(figure["folds"]))
        assert figure["std"] == pytest.approx(np.std(figure["folds"], ddof=1))


def test_scores_and_summary_carry_the_names_that_dashboards_know(report: dict[str, Any], folder: Path) -> None:
    scores = json.loads((folder / "scores.json").read_text("utf-8"))
    summary = json.loads((folder / "run_summary.json").read_text("utf-8"))
    assert {"cv_accuracy_mean", "cv_recall_std", "test_accuracy", "test_roc_auc"} <= set(scores)
    assert summary["scores"] == scores == {name: pytest.approx(value) for name, value in report["scores"].items()}
    assert (summary["model_type"], summary["k_folds"], summary["positive"]) == ("logistic_regression", 3, ["malignant"])
    assert summary["data_version"] == report["data_version"]


def test_the_classification_report_names_the_classes(report: dict[str, Any], folder: Path) -> None:
    text = (folder / "classification_report.txt").read_text("utf-8")
    assert "malignant" in text
    assert "benign" in text
    assert text == report["classification_report"]


def test_the_card_comes_from_the_report_alone(report: dict[str, Any], folder: Path) -> None:
    text = (folder / "card.md").read_text("utf-8")
    assert text == card(report)
    recall = report["test"]["recall"]
    assert f"| recall | {recall['value']:.3f} [{recall['lower']:.3f}, {recall['upper']:.3f}] | {recall['n']} |" in text
    assert "positive: malignant" in text
    assert "performance on new patients is unknown" in text


def bounds(value: float | None, lower: float | None, upper: float | None) -> dict[str, Any]:
    return {"value": value, "lower": lower, "upper": upper}


def calibrated(slope: Any = (1.0, 0.8, 1.2), shift: Any = (0.0, -0.2, 0.2)) -> dict[str, Any]:
    return {"calibration_slope": bounds(*slope), "calibration_intercept": bounds(*shift)}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"smoke": True}, "can never be promoted"),
        ({"accepted_findings": ["leaking_column"]}, "accepted by name: leaking_column"),
        ({"test": {"recall": {"note": "only 7 positives"}}}, "Based on few cases: recall"),
        ({"test_groups": {"benign": 100, "malignant": 99}}, "Few independent test cases: 99 malignant."),
        ({"test_counts": {"benign": 801, "malignant": 199}}, "Rare class: malignant (19.9%)."),
        ({"test_counts": {"benign": 100, "malignant": 0}}, "No test case of malignant"),
        ({"subgroups": {}}, "No subgroups were analysed"),
        ({"subgroups": {"sex": {"f": {"counts": {"benign": 50, "malignant": 19}}}}}, "assess performance in sex f."),
        ({"beside": {"name": "coin", "gain": {"roc_auc": {"lower": -0.1}}}}, "not shown to rank these cases better"),
        ({"conformal": {"quantiles": [0.4, 1.0]}}, "always contains malignant"),
        (
            {"test": calibrated(slope=(0.6, 0.4, 0.8))},
            "Poorly calibrated: over-confident (calibration slope 0.600 [0.400",
        ),
        (
            {"test": calibrated(shift=(-0.4, -0.6, -0.2))},
            "Poorly calibrated: risk overestimated (calibration intercept",
        ),
        ({"test": calibrated(slope=(None, None, None))}, "Calibration could not be assessed"),
        (
            {"test": {"accuracy": bounds(0.63, 0.6, 0.66)}},
            "not shown to be above that of always deciding benign (0.628)",
        ),
        ({"facts": {"evaluate": {"edition": "another"}}}, "but tested on edition another: it may have been trained"),
        ({"patients_known": True, "cases_without_patient": 3}, "3 of the 113 test cases have no patient ID"),
    ],
)
def test_each_limitation_is_stated(report: dict[str, Any], change: dict[str, Any], sentence: str) -> None:
    large = {"benign": 500, "malignant": 500}
    sound = {"test_counts": large, "test_groups": large, "subgroups": {"sex": {"f": {"counts": large}}}}
    assert not any(sentence in one for one in limits({**report, "test": {}, **sound}))
    assert any(sentence in one for one in limits({**report, **sound, **change}))


def test_known_patients_are_no_limitation(report: dict[str, Any]) -> None:
    assert not any("new patients" in sentence for sentence in limits({**report, "patients_known": True}))


def test_the_page_is_one_file_that_loads_nothing(folder: Path) -> None:
    page = (folder / "report.html").read_text("utf-8")
    assert page.count("data:image/png;base64,") == len(PICTURES)
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", page)
    assert "<script" not in page


def test_a_class_name_cannot_become_markup(report: dict[str, Any]) -> None:
    hostile = "<script>alert(1)</script>"
    page = report_page({**report, "name": hostile, "positive": [hostile], "git_commit": hostile}, {})
    assert hostile not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_is_there(folder: Path, name: str) -> None:
    assert (folder / "plots" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_curves_run_from_corner_to_corner(folder: Path) -> None:
    roc = pd.read_csv(folder / "plots" / "roc.csv")
    assert set(roc["class"]) == {"malignant"}
    assert roc[["fpr", "tpr"]].iloc[[0, -1]].to_numpy().tolist() == [[0, 0], [1, 1]]
    reliability = pd.read_csv(folder / "plots" / "reliability.csv")
    assert reliability["n"].sum() == 113


def test_the_same_bundle_gives_the_same_report(
    finished: Path, cases: list[Case], folder: Path, report: dict[str, Any], tmp_path: Path
) -> None:
    groups = [case.case_id for case in cases]
    bundle, study = finished / "work" / "bundle", report["study"]
    section = EvaluateSection(draws=100)
    options = {"study": study, "looks": report["looks"], "edition": report["edition"]}
    evaluate_bundle(bundle, cases, groups, section, accepted=[], **options, folder=tmp_path / "again")
    for name in ("report.json", "scores.json", "card.md", "report.html", "tripod_ai.md", "plots/roc.png"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
    evaluate_bundle(bundle, cases[::-1], groups[::-1], section, accepted=[], folder=tmp_path / "b")
    scores = json.loads((tmp_path / "b" / "scores.json").read_text("utf-8"))
    assert scores == pytest.approx(report["scores"], abs=1e-9)
    assert (tmp_path / "b" / "cases.parquet").read_bytes() == (folder / "cases.parquet").read_bytes()


def test_cases_of_another_class_are_refused(predictor: Predictor, cases: list[Case]) -> None:
    strange = Case(case_id="x", label="cyst", source="x", values=cases[0].values)
    with pytest.raises(UserError, match="labels that the bundle does not know: cyst"):
        measure_bundle(predictor, [strange], ["x"])
    with pytest.raises(UserError, match="There are no test cases"):
        measure_bundle(predictor, [], [])


def test_a_test_set_of_one_class_has_undefined_metrics(finished: Path, cases: list[Case], tmp_path: Path) -> None:
    benign = [case for case in cases if case.label == "benign"][:5]
    groups = [case.case_id for case in benign]
    folder = tmp_path / "report"
    evaluate_bundle(
        finished / "work" / "bundle", benign, groups, EvaluateSection(draws=100), accepted=[], folder=folder
    )
    report = json.loads((folder / "report.json").read_text("utf-8"))
    assert report["scores"]["test_roc_auc"] is None
    assert report["net_benefit"][0]["model"]["value"] <= 0
    assert "No test case of malignant" in (folder / "report.html").read_text("utf-8")
    assert "test_roc_auc" not in json.loads((folder / "scores.json").read_text("utf-8"))
    assert "| roc_auc | undefined | 5 |" in (folder / "card.md").read_text("utf-8")
    assert card(report) == (folder / "card.md").read_text("utf-8")


def test_folds_where_a_figure_is_undefined_are_left_out_of_its_mean() -> None:
    figures = fold_figures({"fold": [0, 1, 2], "n": [1, 1, 1], "recall": [0.5, None, 1.0], "roc_auc": [None] * 3})  # type: ignore[dict-item]
    assert set(figures) == {"recall", "roc_auc"}
    assert figures["recall"]["mean"] == pytest.approx(0.75)
    assert figures["recall"]["note"] == "undefined in 1 of 3 folds"
    assert np.isnan(flat_scores({}, figures)["cv_roc_auc_mean"])


def test_nan_and_infinity_become_null() -> None:
    content = {"a": [float("nan"), 1.0], "b": {"c": float("inf")}, "d": "text", "e": (1, None)}
    assert replace_nan(content) == {"a": [None, 1.0], "b": {"c": None}, "d": "text", "e": [1, None]}
