"""The evaluate stage: report.json for programs, report.html and card.md for people, all from the same figures."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medloop.bundle.predictor import Predictor
from medloop.case import Case
from medloop.evaluate.checklists.claim import ITEMS as CLAIM
from medloop.evaluate.checklists.items import Item, checklist_text, fill_checklist
from medloop.evaluate.checklists.tripod import ITEMS as TRIPOD
from medloop.evaluate.figures.abstention import abstention, conformal, risk_points, risk_rows
from medloop.evaluate.figures.bands import Columns, banded
from medloop.evaluate.figures.baselines import BaselineModel, compare_with_baseline, majority_class
from medloop.evaluate.figures.benefit import (
    benefit_points,
    benefit_rows,
    observed_predictive_values,
    predictive_values_at_prevalence,
)
from medloop.evaluate.figures.case_scores import write_case_scores
from medloop.evaluate.figures.scores import (
    Measured,
    class_figures,
    flat_scores,
    fold_figures,
    measure_bundle,
    test_figures,
)
from medloop.evaluate.figures.subgroups import Bands, subgroup_figures
from medloop.evaluate.figures.wrong import most_wrong, wrong_pictures
from medloop.evaluate.write import plots, plots_in_use
from medloop.evaluate.write.card import card
from medloop.evaluate.write.class_view import class_scores
from medloop.evaluate.write.page import report_page
from medloop.evaluate.write.plots import Points
from medloop.metrics.counts import classification_report, confusion
from medloop.recipe import EvaluateSection
from medloop.storage import atomic_file, atomic_folder, write_json, write_text

CHECKLISTS: dict[str, tuple[str, tuple[Item, ...]]] = {
    "Reporting checklist: TRIPOD+AI": ("tripod_ai.md", TRIPOD),
    "Reporting checklist: CLAIM": ("claim.md", CLAIM),
}
FORESTS = {"roc_auc": "AUC, 95% interval", "recall": "sensitivity, 95% interval"}


def evaluate_bundle(
    bundle: Path,
    cases: Sequence[Case],
    groups: Sequence[str],
    section: EvaluateSection,
    *,
    accepted: Sequence[str],
    files: Sequence[bytes] | None = None,
    columns: Columns | None = None,
    study: Mapping[str, Any] | None = None,
    baseline: BaselineModel | None = None,
    looks: int = 0,
    edition: str | None = None,
    folder: Path,
) -> dict[str, Any]:
    """Score the bundle on the edition, write the report and return it.

    `columns` are those of the manifest, for subgroups; `study` describes the data; `baseline` is compared with the
    bundle; `looks` is the number of bundles that were scored on this edition, this one included.
    """
    predictor = Predictor.load(bundle)
    decider = predictor.decider
    measured = measure_bundle(predictor, cases, groups, files=files)
    bands = banded(columns or {}, section.subgroups, measured.answers.members)
    report = _report(predictor, measured, section, accepted) | _detailed_report(predictor, measured, section, bands)
    report["scores"] |= class_scores(report)
    report["study"] = dict(study) if study else None
    report["beside"] = compare_with_baseline(baseline, measured, decider, section) if baseline else None
    report["looks"] = looks
    report["facts"] = {**predictor.meta.get("facts", {}), "evaluate": _facts(measured, section, edition)}
    finite = replace_nan(report)
    wrong = wrong_pictures(predictor, measured, report["most_wrong"], files) if files is not None else []
    with atomic_folder(folder) as target:
        _write_data_files(target, finite, measured, decider.classes, bands)
        _write_documents(target, finite, wrong, points=_points(predictor, measured, section))
    return report


def _write_data_files(
    target: Path, report: Mapping[str, Any], measured: Measured, classes: Sequence[str], bands: Bands
) -> None:
    write_case_scores(target / "cases.parquet", measured, classes, bands)
    write_json(target / "report.json", report)
    write_json(target / "scores.json", _finite(report["scores"]))
    write_json(target / "run_summary.json", _summary(report))
    (target / "plots").mkdir()
    _write_csv(target / "plots" / "confusion.csv", _decisions(measured))


def _write_documents(
    target: Path, report: Mapping[str, Any], wrong: Sequence[bytes], *, points: Mapping[str, Points]
) -> None:
    pictures = _pictures(report, points)
    tables = {title: fill_checklist(asked, report) for title, (_, asked) in CHECKLISTS.items()}
    write_text(target / "classification_report.txt", report["classification_report"])
    write_text(target / "report.html", report_page(report, pictures, wrong=wrong, tables=tables))
    write_text(target / "card.md", card(report))
    for title, answers in tables.items():
        write_text(target / CHECKLISTS[title][0], checklist_text(title, answers))
    for name, png in pictures.items():
        (target / "plots" / f"{name}.png").write_bytes(png)
    for name, rows in points.items():
        _write_csv(target / "plots" / f"{name}.csv", rows)


def _report(
    predictor: Predictor, measured: Measured, section: EvaluateSection, accepted: Sequence[str]
) -> dict[str, Any]:
    meta = predictor.meta
    test, folds = test_figures(measured, section), fold_figures(meta["cross_validation"])
    kept = ("name", "task", "classes", "positive", "model", "recipe", "data_version", "edition", "smoke", "git_commit",
            "parent", "created", "calibration", "threshold", "conformal", "decide", "outliers", "parity",
            "environment")  # fmt: skip
    groups = np.array(measured.groups)
    return {
        **{name: meta[name] for name in kept},
        "bundle": predictor.hash,
        "n_train": _n_train(meta),
        "folds": sum(fold >= 0 for fold in meta["cross_validation"]["fold"]),
        "cross_validation_rule": meta.get("cross_validation_rule"),
        "preparation": preparation_facts(meta["preparer"]),
        "n_test": len(measured.cases),
        "n_features": n_features(meta["preparer"]),
        "test_counts": {name: int((measured.truth == number).sum()) for number, name in enumerate(measured.names)},
        "test_groups": {
            name: len(np.unique(groups[measured.truth == number])) for number, name in enumerate(measured.names)
        },
        "class_counts": {name: int((measured.y == k).sum()) for k, name in enumerate(predictor.decider.classes)},
        "patients_known": any(case.patient_id for case in measured.cases),
        "cases_without_patient": sum(not case.patient_id for case in measured.cases),
        "accepted_findings": list(accepted),
        "test": test,
        "cross_validation": folds,
        "scores": flat_scores(test, folds),
        "majority": majority_class(measured, predictor.decider.classes),
        "predictive": observed_predictive_values(measured),
        "abstained": abstention(measured, predictor.decider.classes),
        "confusion": {
            "names": list(measured.names),
            "rows": "true",
            "columns": "decided",
            "counts": plots.matrix(measured).tolist(),
        },
        "classification_report": classification_report(measured.truth, measured.chosen, measured.names),
    }


def _n_train(meta: Mapping[str, Any]) -> int:
    """Return the number of cases that the model was fitted on; in older bundles, of all training cases."""
    facts = meta.get("facts", {})
    known = facts.get("export", {}).get("head_fitted_on") or facts.get("train", {}).get("cases")
    return int(known or meta.get("n_train", meta["calibration"]["n"]))


def preparation_facts(preparer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the bundle's preparation; for a table, the number of columns of each kind."""
    if preparer["kind"] != "table":
        return dict(preparer)
    kinds = [column["kind"] for column in preparer["columns"]]
    return {"kind": "table", "numbers": kinds.count("number"), "categories": kinds.count("category")}


def _facts(measured: Measured, section: EvaluateSection, edition: str | None) -> dict[str, Any]:
    """Return the settings and the cases of this evaluation."""
    return {
        "draws": section.draws,
        "seed": section.seed,
        "prevalence": section.prevalence,
        "subgroups": list(section.subgroups),
        "edition": edition,
        "cases": len(measured.cases),
        "groups": len(set(measured.groups)),
        "patients_known": any(case.patient_id for case in measured.cases),
    }


def _detailed_report(
    predictor: Predictor, measured: Measured, section: EvaluateSection, bands: Bands
) -> dict[str, Any]:
    """Return the figures by class and subgroup, of the conformal sets, in use, and of single cases."""
    decider = predictor.decider
    by_class, over_classes = class_figures(measured, decider.classes, section)
    return {
        "by_class": by_class,
        "over_classes": over_classes,
        "confusion_classes": confusion(measured.y, measured.answers.choices, len(decider.classes)).tolist(),
        "subgroups": subgroup_figures(measured, bands, section),
        "conformal_test": conformal(measured, decider, section),
        "risk_coverage": risk_rows(measured, decider.threshold),
        "at_prevalence": predictive_values_at_prevalence(measured, section),
        "net_benefit": benefit_rows(measured, section),
        "most_wrong": most_wrong(measured, decider.classes),
    }


def n_features(preparer: Mapping[str, Any]) -> int:
    """Return the number of columns of a table or of values of an image."""
    if preparer["kind"] == "table":
        return len(preparer["columns"])
    height, width = preparer["size"]
    return int(height * width * preparer["channels"])


def _points(predictor: Predictor, measured: Measured, section: EvaluateSection) -> dict[str, Points]:
    """Return the points of every curve."""
    return {
        **plots.curves(measured),
        "decision_curve": benefit_points(measured, section),
        "risk_coverage": risk_points(measured, predictor.decider.threshold),
    }


def _pictures(report: Mapping[str, Any], points: Mapping[str, Points]) -> dict[str, bytes]:
    names = report["confusion"]["names"]
    pictures = {
        "confusion_matrix": plots.confusion_matrix(names, report["confusion"]["counts"]),
        "roc": plots.roc(points["roc"], report),
        "precision_recall": plots.precision_recall(points["precision_recall"], report),
        "reliability": plots.reliability(points["reliability"]),
        "risk_coverage": plots_in_use.risk_against_coverage(
            points["risk_coverage"], report["risk_coverage"], report["abstained"]
        ),
    }
    if len(report["classes"]) != len(names):
        pictures["confusion_classes"] = plots.confusion_matrix(report["classes"], report["confusion_classes"])
    if points["decision_curve"]:
        pictures["decision_curve"] = plots_in_use.decision_curve(points["decision_curve"])
    for metric, title in FORESTS.items() if report["subgroups"] else ():
        if report["test"][metric]["value"] is not None and (metric == "roc_auc" or len(names) == 2):
            forest = plots_in_use.forest(report["subgroups"], report["test"][metric], metric, title=title)
            pictures[f"forest_{metric}"] = forest
    return pictures


def _summary(report: Mapping[str, Any]) -> dict[str, Any]:
    kept = (
        "name",
        "data_version",
        "edition",
        "smoke",
        "n_train",
        "n_test",
        "n_features",
        "positive",
        "bundle",
        "created",
    )
    return {
        **{name: report[name] for name in kept},
        "model_type": report["model"]["name"],
        "params": report["model"]["params"],
        "k_folds": report["folds"],
        "random_state": report["model"]["seed"],
        "threshold": report["threshold"],
        "scores": _finite(report["scores"]),
    }


def _finite(scores: Mapping[str, float | None]) -> dict[str, float]:
    """Return the figures that are defined; JSON and MLflow cannot express NaN."""
    return {name: value for name, value in scores.items() if value is not None}


def replace_nan(content: Any) -> Any:
    """Return the content with None for NaN and infinity, which JSON cannot express."""
    if isinstance(content, Mapping):
        return {name: replace_nan(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [replace_nan(value) for value in content]
    return None if isinstance(content, float) and not np.isfinite(content) else content


def _decisions(measured: Measured) -> list[dict[str, Any]]:
    return [
        {"actual": measured.names[t], "predicted": measured.names[d]}
        for t, d in zip(measured.truth, measured.chosen, strict=True)
    ]


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with atomic_file(path, "w") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else ["class"])
        writer.writeheader()
        writer.writerows(rows)
