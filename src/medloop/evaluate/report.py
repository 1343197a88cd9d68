"""The evaluate stage: report.json for programs, report.html and card.md for people, all from the same figures."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medloop.bundle.predictor import Predictor
from medloop.case import Case
from medloop.evaluate import plots
from medloop.evaluate.card import card
from medloop.evaluate.figures import Measured, flat, fold_figures, measure_bundle, test_figures
from medloop.evaluate.page import report_page
from medloop.metrics.counts import classification_report, confusion
from medloop.recipe import EvaluateSection
from medloop.storage import atomic_file, atomic_folder, write_json, write_text


def evaluate_bundle(
    bundle: Path,
    cases: Sequence[Case],
    groups: Sequence[str],
    section: EvaluateSection,
    *,
    accepted: Sequence[str],
    files: Sequence[bytes] | None = None,
    folder: Path,
) -> dict[str, Any]:
    """Score the bundle on the edition and write everything that is told about it."""
    predictor = Predictor.load(bundle)
    measured = measure_bundle(predictor, cases, groups, files=files)
    report = _report(predictor, measured, section, accepted)
    points = plots.curves(measured)
    pictures = _pictures(measured, points)
    with atomic_folder(folder) as target:
        (target / "plots").mkdir()
        write_json(target / "report.json", defined(report))
        write_json(target / "scores.json", _finite(report["scores"]))
        write_json(target / "run_summary.json", _summary(report))
        write_text(target / "classification_report.txt", report["classification_report"])
        write_text(target / "report.html", report_page(report, pictures))
        write_text(target / "card.md", card(report))
        for name, png in pictures.items():
            (target / "plots" / f"{name}.png").write_bytes(png)
        for name, rows in points.items():
            _write_csv(target / "plots" / f"{name}.csv", rows)
        _write_csv(target / "plots" / "confusion.csv", _decisions(measured))
    return report


def _report(
    predictor: Predictor, measured: Measured, section: EvaluateSection, accepted: Sequence[str]
) -> dict[str, Any]:
    meta = predictor.meta
    test, folds = test_figures(measured, section), fold_figures(meta["cross_validation"])
    counts = confusion(measured.truth, measured.decisions.argmax(axis=1), len(measured.names))
    kept = ("name", "task", "classes", "positive", "model", "recipe", "data_version", "edition", "smoke", "git_commit",
            "parent", "created", "calibration", "threshold", "conformal", "parity", "environment")  # fmt: skip
    return {
        **{name: meta[name] for name in kept},
        "bundle": predictor.hash,
        "n_train": meta.get("n_train", meta["calibration"]["n"]),
        "n_test": len(measured.cases),
        "n_features": n_features(meta["preparer"]),
        "test_counts": {name: int((measured.truth == number).sum()) for number, name in enumerate(measured.names)},
        "patients_known": any(case.patient_id for case in measured.cases),
        "accepted_findings": list(accepted),
        "test": test,
        "cross_validation": folds,
        "scores": flat(test, folds),
        "abstained": _abstained(predictor, measured),
        "confusion": {"names": list(measured.names), "rows": "true", "columns": "decided", "counts": counts.tolist()},
        "classification_report": classification_report(
            measured.truth, measured.decisions.argmax(axis=1), measured.names
        ),
    }


def n_features(preparer: Mapping[str, Any]) -> int:
    """The columns of a table, or the values of a picture."""
    if preparer["kind"] == "table":
        return len(preparer["columns"])
    height, width = preparer["size"]
    return int(height * width * preparer["channels"])


def _abstained(predictor: Predictor, measured: Measured) -> dict[str, Any]:
    """How many cases the service would give no class, and how right it is on the others."""
    decider = predictor.decider
    distances = decider.outliers.distances(measured.scores.embedding)
    sets = decider.conformal_sets(measured.scores.probabilities)
    facts = zip(measured.scores.complaints, distances, sets, strict=True)
    silent = np.array([bool(why or decider.reason_to_abstain(far, left)) for why, far, left in facts])
    right = measured.scores.choices == measured.y
    covered = sets[np.arange(len(measured.y)), measured.y]
    by_class = {
        name: float(covered[measured.y == i].mean())
        for i, name in enumerate(decider.classes)
        if (measured.y == i).any()
    }
    return {
        "n": int(silent.sum()),
        "share": float(silent.mean()),
        "accuracy_of_the_rest": float(right[~silent].mean()) if (~silent).any() else None,
        "conformal_coverage": by_class,
        "conformal_set_size": float(sets.sum(axis=1).mean()),
    }


def _pictures(measured: Measured, points: Mapping[str, list[dict[str, Any]]]) -> dict[str, bytes]:
    roc = ("1 - specificity", "sensitivity")
    return {
        "confusion_matrix": plots.confusion_matrix(measured),
        "roc": plots.curve(points["roc"], "fpr", "tpr", roc, diagonal=True),
        "precision_recall": plots.curve(
            points["precision_recall"], "recall", "precision", ("recall", "precision"), diagonal=False
        ),
        "reliability": plots.curve(
            points["reliability"], "predicted", "observed", ("predicted probability", "observed share"), diagonal=True
        ),
    }


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
        "k_folds": report["recipe"]["split"]["folds"],
        "random_state": report["recipe"]["train"]["seed"],
        "threshold": report["threshold"],
        "scores": _finite(report["scores"]),
    }


def _finite(scores: Mapping[str, float]) -> dict[str, float]:
    """Figures that are defined; JSON and MLflow have no word for the others."""
    return {name: value for name, value in scores.items() if np.isfinite(value)}


def defined(content: Any) -> Any:
    """The same content with None for what is not a number; JSON has no word for NaN."""
    if isinstance(content, Mapping):
        return {name: defined(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [defined(value) for value in content]
    return None if isinstance(content, float) and not np.isfinite(content) else content


def _decisions(measured: Measured) -> list[dict[str, Any]]:
    decided = measured.decisions.argmax(axis=1)
    return [
        {"actual": measured.names[t], "predicted": measured.names[d]}
        for t, d in zip(measured.truth, decided, strict=True)
    ]


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with atomic_file(path, "w") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else ["class"])
        writer.writeheader()
        writer.writerows(rows)
