"""The demo: the whole loop on embedded data, then the service."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from medloop.errors import GateRefusal
from medloop.steps.pipeline import Done, run_all
from medloop.steps.project import Project
from medloop.storage import read_json

SHOWN = ("accuracy", "recall", "specificity", "precision", "f1", "roc_auc", "brier")


def run_demo(project: Project) -> Iterator[Done]:
    """All stages; a no of the gate is told and does not end the demo."""
    try:
        yield from run_all(project)
    except GateRefusal as refusal:
        yield Done(stage="verdict", text=f"the gate says no:{refusal.found}", seconds=0.0)


def figures_table(project: Project) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The figures of the report, as a table for the terminal."""
    report = read_json(project.work / "report" / "report.json")
    folds = report["recipe"]["split"]["folds"]
    header = ("", f"{folds} folds: mean", "std", "95% interval", f"test (n={report['n_test']})", "95% interval")
    rows: list[tuple[str, ...]] = []
    for name in SHOWN:
        cv, test = report["cross_validation"][name], report["test"][name]
        rows.append((name, _text(cv["mean"]), _text(cv["std"]), _range(cv), _text(test["value"]), _range(test)))
    return header, rows


def _text(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _range(figure: dict[str, float | None]) -> str:
    lower, upper = figure["lower"], figure["upper"]
    return "" if lower is None or upper is None else f"{lower:.3f} - {upper:.3f}"


def bundle_to_serve(project: Project) -> Path | None:
    """The bundle just made where none was promoted; None stands for the champion."""
    return None if (project.models / "champion.json").is_file() else project.work / "bundle"


def what_to_open(project: Project, bundle: Path | None, *, port: int) -> str:
    """Where to look now, and a line that asks the service."""
    case = next(row for row in project.cases().to_dict("records") if row["label"] in project.recipe.data.positive)
    features = json.dumps([value for name, value in case.items() if name.startswith("row.")])
    served = "the champion" if bundle is None else "the bundle just made (the gate said no, so it is no champion)"
    folder = project.root.name
    return "\n".join(
        [
            "",
            f"  report    {folder}/work/report/report.html",
            f"  audit     {folder}/work/audit/audit.html",
            f"  tracking  cd {folder} && mlflow ui --backend-store-uri sqlite:///mlflow.db",
            f"  service   http://127.0.0.1:{port}/ and /docs, with {served}: `cd {folder} && medloop serve`",
            f"  ask it    curl -s http://127.0.0.1:{port}/predict -H 'Content-Type: application/json' \\",
            f"                 -d '{{\"features\": {features}}}'",
            "",
        ]
    )
