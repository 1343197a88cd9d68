"""Projects for the tests of the loop: one that is finished, made once a session, and small tables to begin from."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import random
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml

from medloop.storage import file_lock

STAGES = ("ingest", "audit", "split", "prepare", "tune", "train", "export", "evaluate")
LEFT_BEHIND = shutil.ignore_patterns("mlflow.db", "mlruns", "logs")


@dataclass(frozen=True)
class Ended:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str


def medloop(*words: str, cwd: Path) -> Ended:
    """A command as it is typed, without the seconds that a new process takes to import the libraries."""
    from medloop.__main__ import main

    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.object(sys, "argv", ["medloop", *words]),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
    return Ended(code, out.getvalue(), err.getvalue())


def run_loop(folder: Path, **options: Any) -> dict[str, Any]:
    """All stages of the project; how each went, by name."""
    from medloop.steps.pipeline import run_all
    from medloop.steps.project import load_project

    return {done.stage: done for done in run_all(load_project(folder, **options))}


def run_stages(folder: Path, *names: str, **options: Any) -> None:
    """Some stages, whether or not anything changed."""
    from medloop.steps.pipeline import run_stage
    from medloop.steps.project import load_project

    for name in names:
        run_stage(load_project(folder, **options), name)


def edit_recipe(folder: Path, **sections: Any) -> Path:
    """Set values in params.yaml; a section that is a mapping is merged."""
    path = folder / "params.yaml"
    recipe = yaml.safe_load(path.read_text("utf-8"))
    for name, values in sections.items():
        recipe[name] = {**recipe.get(name, {}), **values} if isinstance(values, Mapping) else values
    path.write_text(yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return folder


def at_least(metric: str, value: float) -> dict[str, Any]:
    """The gate's section with one rule."""
    return {"rules": [{"metric": metric, "at_least": value}]}


def new_wisconsin(folder: Path) -> Path:
    """A project on the Wisconsin table, made quick: 3 folds, few draws of the bootstrap."""
    from medloop.cli.project import make_project

    make_project(folder, like="breast-cancer")
    return edit_recipe(folder, split={"folds": 3}, evaluate={"draws": 100}, gate=at_least("cv_recall_mean", 0.9))


Rows = Sequence[Mapping[str, Any]]
ODD_NAMES = ("age (years)", "Größe, cm", "c0", "one", "label", "prepare/variable")


def small_rows(count: int, *, seed: int = 0, classes: Sequence[str] = ("benign", "malignant")) -> Rows:
    """Rows with awkward column names, categories and gaps, and a class that can be learned from them."""
    draw = random.Random(seed)  # noqa: S311 - made-up cases, not secrets
    rows = []
    for number in range(count):
        kind = number % len(classes)
        size = round(draw.gauss(10 + 4 * kind, 2), 3)
        row = {
            "age (years)": draw.randint(20, 90),
            "Größe, cm": "" if draw.random() < 0.1 else size,
            "c0": round(draw.gauss(3 * kind, 1.5), 3),
            "one": draw.choice([0, 1]),
            "label": draw.choice(["left", "right", "?"]),
            "prepare/variable": draw.choice(["I", "II"] if kind == 0 else ["II", "III"]),
            "diagnosis": classes[kind],
        }
        rows.append(row)
    return rows


def write_table(path: Path, rows: Rows) -> Path:
    """The rows as CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def new_table(folder: Path, rows: Rows, **data: Any) -> Path:
    """A project on a CSV file of these rows, made quick."""
    from medloop.cli.project import make_project

    table = write_table(folder.with_suffix(".csv"), rows)
    make_project(folder, like="breast-cancer", data=str(table), label="diagnosis")
    settings = {"positive": ["malignant"], **data}
    edit_recipe(folder, data=settings, split={"folds": 3}, evaluate={"draws": 100})
    return edit_recipe(folder, gate=at_least("test_accuracy", 0.01))


def installed(folder: Path, name: str, version: str) -> Path:
    """A folder for the module path in which this release of a library counts as installed."""
    facts = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", "utf-8")
    return folder


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the first test to need it makes, whichever process that test runs in."""
    base = factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    folder, done = shared / name, shared / f"{name}.done"
    with file_lock(shared / f"{name}.lock"):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            done.touch()
    return folder


def make_finished(folder: Path) -> Path:
    """The Wisconsin loop from the source to a version that serves."""
    new_wisconsin(folder)
    run_loop(folder)
    return folder


def make_small(folder: Path) -> Path:
    """A small table with awkward columns, from the source to the report."""
    new_table(folder, small_rows(150))
    run_stages(folder, *STAGES)
    return folder


PICTURES = {
    "name": "pictures",
    "data": {
        "source": "phantoms",
        "classes": ["normal", "large_cell"],
        "positive": ["large_cell"],
        "phantom": {"patients": 40, "slices": 2, "size": 64},
    },
    "split": {"test": 0.2, "val": 0.2, "folds": 2},
    "prepare": {"size": 32, "channels": 1},
    "model": {"name": "backbone", "backbone": "resnet10t"},
    "train": {"mode": "head"},
    "export": {"per": "patient"},
    "evaluate": {"draws": 100},
    "gate": {"rules": [{"metric": "test_accuracy", "at_least": 0.0}]},
}


def make_pictures(folder: Path) -> Path:
    """Phantoms of CT slices, a head on features, answers by patient; from the source to a version that serves."""
    folder.mkdir(parents=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(PICTURES), "utf-8")
    run_loop(folder)
    return folder


def copied(project: Path, to: Path) -> Path:
    """A copy to change, without the MLflow store, whose artifacts have absolute addresses."""
    shutil.copytree(project, to, symlinks=True, ignore=LEFT_BEHIND)
    return to
