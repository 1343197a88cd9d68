"""The demo tells the figures and how to ask the service, whichever way the gate decides."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from medloop.errors import UnknownName
from medloop.registry.follow import load_champion
from medloop.registry.store import ModelStore
from medloop.steps.demo import bundle_to_serve, chosen, figures_table, is_hit, run_demo, what_to_open
from medloop.steps.project import load_project
from tests.loop_project import at_least, edit_recipe


def test_the_figures_are_those_of_the_report(finished: Path) -> None:
    header, rows = figures_table(load_project(finished))
    report = json.loads((finished / "work" / "report" / "report.json").read_text("utf-8"))
    assert header[1] == "3 folds: mean"
    assert header[4] == "test (n=113)"
    auc = next(row for row in rows if row[0] == "roc_auc")
    assert auc[1] == f"{report['cross_validation']['roc_auc']['mean']:.4f}"
    assert auc[4] == f"{report['test']['roc_auc']['value']:.4f}"


def test_after_a_refusal_the_new_bundle_is_offered(project: Path) -> None:
    shutil.rmtree(project / "models")
    loaded = load_project(edit_recipe(project, gate=at_least("test_recall", 1.0)))
    done = list(run_demo(loaded))
    assert done[-1].stage == "verdict"
    assert "NO  test_recall" in done[-1].text
    bundle = bundle_to_serve(loaded)
    assert bundle == project / "work" / "bundle"
    assert "refused by the gate, so not promoted" in what_to_open(loaded, bundle, port=8000)


def test_the_line_to_try_is_a_request_that_works(finished: Path) -> None:
    project = load_project(finished)
    bundle = bundle_to_serve(project)
    assert bundle is None
    text = what_to_open(project, bundle, port=8123)
    assert "http://127.0.0.1:8123/predict" in text
    found = re.search(r"-d '(\{.*\})'", text)
    assert found is not None
    predictor = load_champion(ModelStore(project.models))
    row = predictor.preparer.row_of(json.loads(found[1])["features"])
    assert predictor.predict([row])[0].probabilities["malignant"] > 0.5


def test_a_peak_counts_where_it_lies_in_the_nodule() -> None:
    shown = np.zeros((96, 96))
    shown[30, 60] = 1
    # The file has 128 pixels a side and the map 96.
    inside = {"x": "80.0", "y": "42.0", "radius": "2.5"}
    assert is_hit(shown, inside, size=128)
    assert not is_hit(shown, {**inside, "y": "45.0"}, size=128)
    assert not is_hit(shown.T, inside, size=128)


def test_another_demo_is_refused() -> None:
    with pytest.raises(UnknownName, match="breast-cancer"):
        chosen("brest-cancer")
    assert chosen(None) == ("breast-cancer", "chest-ct")


def test_an_undefined_figure_is_a_word(project: Path) -> None:
    path = project / "work" / "report" / "report.json"
    report = json.loads(path.read_text("utf-8"))
    report["test"]["roc_auc"].update(value=None, lower=None, upper=None)
    path.write_text(json.dumps(report), encoding="utf-8")
    _, rows = figures_table(load_project(project))
    assert next(row for row in rows if row[0] == "roc_auc")[4:] == ("undefined", "")
