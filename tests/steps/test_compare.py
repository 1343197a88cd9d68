"""`medloop compare`: a table and a picture of the models, from the training cases alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from medloop.errors import UnknownName
from medloop.models import MODELS
from medloop.steps.compare import compare_models
from medloop.steps.project import load_project
from tests.loop_project import edit_recipe, new_table, small_rows

QUICK = ("decision_tree", "logistic_regression")


def test_models_stand_side_by_side_with_their_intervals(table: Path) -> None:
    said = compare_models(load_project(edit_recipe(table, model={"C": 0.5})), QUICK, repeats=2)
    text = (table / "MODEL_SELECTION.md").read_text("utf-8")
    assert said.endswith("see MODEL_SELECTION.md")
    assert "2 x 3-fold cross-validation on 120 training cases" in text
    for name in QUICK:
        assert f"| {name} | {MODELS[name].summary} |" in text
    rows = [line.split("|") for line in text.splitlines() if line.startswith(tuple(f"| {name} | 0" for name in QUICK))]
    aucs = [float(row[2].split()[0]) for row in rows]
    assert len(rows) == 2
    assert aucs == sorted(aucs, reverse=True)
    assert (table / "MODEL_SELECTION.png").read_bytes().startswith(b"\x89PNG")
    assert "![AUC of the models](MODEL_SELECTION.png)" in text


def test_comparing_begins_with_the_stages_that_are_missing(tmp_path: Path) -> None:
    project = new_table(tmp_path / "project", small_rows(120))
    compare_models(load_project(project), ["decision_tree"], repeats=1)
    assert (project / "work" / "prepared").is_dir()
    assert not (project / "work" / "trained").exists()


def test_a_smoke_comparison_does_not_replace_the_real_one(table: Path) -> None:
    (table / "MODEL_SELECTION.md").write_text("the real one", encoding="utf-8")
    said = compare_models(load_project(table, smoke=True), ["decision_tree"], repeats=1)
    assert said.endswith("see work/smoke/MODEL_SELECTION.md")
    assert (table / "MODEL_SELECTION.md").read_text("utf-8") == "the real one"


def test_an_unknown_model_is_told(table: Path) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'random_forest'"):
        compare_models(load_project(table), ["random_forrest"], repeats=1)
