"""The demo: the whole loop on a table and on generated scans, then the service."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from medloop.errors import GateRefusal, UnknownName
from medloop.metrics import MAIN_METRICS
from medloop.steps.kinds import kind_of
from medloop.steps.pipeline import Done, run_all
from medloop.steps.project import Project
from medloop.storage import read_json, read_parquet

DEMOS = ("breast-cancer", "chest-ct")


def chosen(only: str | None) -> tuple[str, ...]:
    """Return the demos to run, the table first."""
    if only is not None and only not in DEMOS:
        raise UnknownName("--only", only, DEMOS)
    return (only,) if only else DEMOS


def run_demo(project: Project) -> Iterator[Done]:
    """Run all stages; a refusal of the gate is reported and does not end the demo."""
    try:
        yield from run_all(project)
    except GateRefusal as refusal:
        yield Done(stage="verdict", text=refusal.problem, seconds=0.0)


def figures_table(project: Project) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the results of the report as a table for the terminal."""
    report = read_json(project.work / "report" / "report.json")
    folded = report["cross_validation"]["roc_auc"]["std"] is not None
    folds = f"{report['folds']} folds: mean"
    header = ("", *((folds, "std", "95% interval") if folded else ()), f"test (n={report['n_test']})", "95% interval")
    rows: list[tuple[str, ...]] = []
    for name in MAIN_METRICS:
        cv, test = report["cross_validation"].get(name), report["test"][name]
        before = (_format(cv["mean"]), _format(cv["std"]), _range(cv)) if folded else ()
        rows.append((name, *before, _format(test["value"]), _range(test)))
    return header, rows


def heatmaps_hit(project: Project) -> str | None:
    """For phantoms: count the true positives whose heatmap peaks in the planted nodule."""
    if project.recipe.data.source != "phantoms":
        return None
    hits, positives = count_hits(project)
    return f"heatmaps: {hits} of {positives} peak in the planted nodule" if positives else None


def count_hits(project: Project) -> tuple[int, int]:
    """Return the number of peaks within the nodule, and of true positives that have a nodule."""
    from medloop.bundle.predictor import Predictor

    predictor = Predictor.load(project.work / "bundle")
    nodules = (project.work / "phantoms" / "nodules.csv").read_text("utf-8")
    truth = {row["path"]: row for row in csv.DictReader(nodules.splitlines())}
    hits = positives = 0
    for case in tested_cases(project):
        nodule = truth.get(case["path"].partition("phantoms/")[2])
        data = (project.root / case["path"]).read_bytes()
        if nodule is None or predictor.predict([data], patients=[0])[0].label != case["label"]:
            continue
        positives += 1
        hits += is_hit(predictor.evidence(data)[1], nodule, size=int(case["width"]))
    return hits, positives


def tested_cases(project: Project) -> list[dict[str, Any]]:
    """Return the locked test cases."""
    from medloop.data.edition import tested_rows

    rows, _ = tested_rows(project.cases(), read_parquet(project.work / "splits.parquet"))
    return [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]


def is_hit(heatmap: Any, nodule: Mapping[str, str], *, size: int) -> bool:
    """Return whether the map peaks in the nodule, whose position is in pixels of a file of this size."""
    row, column = divmod(int(heatmap.argmax()), heatmap.shape[1])
    factor = size / heatmap.shape[1]
    x, y = (column + 0.5) * factor, (row + 0.5) * factor
    return math.hypot(x - float(nodule["x"]), y - float(nodule["y"])) <= float(nodule["radius"])


def _format(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _range(figure: dict[str, float | None]) -> str:
    lower, upper = figure["lower"], figure["upper"]
    return "" if lower is None or upper is None else f"{lower:.3f} - {upper:.3f}"


def bundle_to_serve(project: Project) -> Path | None:
    """Return the new bundle where none was promoted; None means the champion."""
    return None if (project.models / "champion.json").is_file() else project.work / "bundle"


def what_to_open(project: Project, bundle: Path | None, *, port: int) -> str:
    """Return what to open next, and a command that queries the service."""
    served = "the champion" if bundle is None else "the new bundle (refused by the gate, so not promoted)"
    folder = os.path.relpath(project.root)
    address = f"http://127.0.0.1:{port}"
    return "\n".join(
        [
            "",
            f"  report    {folder}/work/report/report.html",
            f"  audit     {folder}/work/audit/audit.html",
            f"  tracking  cd {folder} && mlflow ui --backend-store-uri sqlite:///mlflow.db",
            f"  service   cd {folder} && medloop serve --no-auth --port {port}",
            f"            {address}/ and /docs, with {served}",
            f"  try it    curl -s {address}/predict {_question(project, folder)}",
            "",
        ]
    )


def _question(project: Project, folder: str) -> str:
    """Return what curl sends for a positive case."""
    case = next(case for case in tested_cases(project) if case["label"] in project.recipe.data.positive)
    return kind_of(project).curl_arguments(case, folder)
