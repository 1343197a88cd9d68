"""The demo: the whole loop on a table and on generated scans, then the service."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from medloop.errors import GateRefusal, UnknownName
from medloop.steps.images import has_images
from medloop.steps.pipeline import Done, run_all
from medloop.steps.project import Project
from medloop.storage import read_json, read_parquet

SHOWN = ("accuracy", "recall", "specificity", "precision", "f1", "roc_auc", "brier")
DEMOS = ("breast-cancer", "chest-ct")


def chosen(only: str | None) -> tuple[str, ...]:
    """The demos to run, the table's first."""
    if only is not None and only not in DEMOS:
        raise UnknownName("--only", only, DEMOS)
    return (only,) if only else DEMOS


def run_demo(project: Project) -> Iterator[Done]:
    """All stages; a no of the gate is told and does not end the demo."""
    try:
        yield from run_all(project)
    except GateRefusal as refusal:
        yield Done(stage="verdict", text=f"the gate says no:{refusal.found}", seconds=0.0)


def figures_table(project: Project) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The figures of the report, as a table for the terminal."""
    report = read_json(project.work / "report" / "report.json")
    folded = report["cross_validation"]["roc_auc"]["std"] is not None
    folds = f"{report['folds']} folds: mean"
    header = ("", *((folds, "std", "95% interval") if folded else ()), f"test (n={report['n_test']})", "95% interval")
    rows: list[tuple[str, ...]] = []
    for name in SHOWN:
        cv, test = report["cross_validation"].get(name), report["test"][name]
        before = (_text(cv["mean"]), _text(cv["std"]), _range(cv)) if folded else ()
        rows.append((name, *before, _text(test["value"]), _range(test)))
    return header, rows


def heatmaps_hit(project: Project) -> str | None:
    """For phantoms: how many of the locked cases that were called rightly have the heatmap's peak in their nodule."""
    if project.recipe.data.source != "phantoms":
        return None
    hits, rightly = count_hits(project)
    return f"heatmaps: {hits} of {rightly} have their peak in the nodule that was planted" if rightly else None


def count_hits(project: Project) -> tuple[int, int]:
    """The peaks that lie within the nodule, and the true positives that have a nodule."""
    from medloop.bundle.predictor import Predictor

    predictor = Predictor.load(project.work / "bundle")
    nodules = (project.work / "phantoms" / "nodules.csv").read_text("utf-8")
    truth = {row["path"]: row for row in csv.DictReader(nodules.splitlines())}
    hits = rightly = 0
    for case in tested_cases(project):
        nodule = truth.get(case["path"].partition("phantoms/")[2])
        data = (project.root / case["path"]).read_bytes()
        if nodule is None or predictor.predict([data], patients=[0])[0].label != case["label"]:
            continue
        rightly += 1
        hits += is_hit(predictor.evidence(data)[1], nodule, size=int(case["width"]))
    return hits, rightly


def tested_cases(project: Project) -> list[dict[str, Any]]:
    """The cases of the edition."""
    from medloop.data.edition import tested_rows

    rows, _ = tested_rows(project.cases(), read_parquet(project.work / "splits.parquet"))
    return [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]


def is_hit(shown: Any, nodule: Mapping[str, str], *, size: int) -> bool:
    """Whether the map's peak lies in the nodule, whose place is told in pixels of a file of this size."""
    row, column = divmod(int(shown.argmax()), shown.shape[1])
    factor = size / shown.shape[1]
    x, y = (column + 0.5) * factor, (row + 0.5) * factor
    return math.hypot(x - float(nodule["x"]), y - float(nodule["y"])) <= float(nodule["radius"])


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
    served = "the champion" if bundle is None else "the bundle just made (the gate said no, so it is no champion)"
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
            f"  ask it    curl -s {address}/predict {_question(project, folder)}",
            "",
        ]
    )


def _question(project: Project, folder: str) -> str:
    """What curl sends of a case with the finding."""
    case = next(case for case in tested_cases(project) if case["label"] in project.recipe.data.positive)
    if has_images(project):
        return f"-F file=@{folder}/{case['path']}"
    features = json.dumps([value for name, value in case.items() if name.startswith("row.")])
    return f"-H 'Content-Type: application/json' \\\n                 -d '{{\"features\": {features}}}'"
