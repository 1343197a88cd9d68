"""Several classes count as positive: which one it is must be told too, in every file, on the page and to the gate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medloop.case import RuleOutcome
from medloop.metrics import METRICS
from medloop.metrics.intervals.proportions import wilson
from medloop.steps.project import load_project
from medloop.steps.stages.gate import judge_bundle
from tests.loop_project import copied, edit_recipe, made_once, medloop, run_stages, write_table

CLASSES = ["none", "adenoma", "carcinoma", "sarcoma"]
POSITIVE = CLASSES[1:]
RULES = 4
SURE = 0.9


def tumours(count: int, *, seed: int) -> list[dict[str, Any]]:
    """Finding or none is easy to tell; which finding it is, is not."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        kind = number % len(CLASSES)
        rows.append(
            {
                "marker": round(rng.normal(8 * (kind > 0), 1), 3),
                "texture": round(rng.normal(0.8 * kind, 1), 3),
                "site": ["north", "south"][number // 4 % 2],
                "finding": CLASSES[kind],
            }
        )
    return rows


def make_tumours(folder: Path) -> None:
    """A project from the command line, up to the report of its second model; the first one serves."""
    table = write_table(folder.with_suffix(".csv"), tumours(480, seed=0))
    made = medloop("new", str(folder), "--data", str(table), "--label", "finding", cwd=folder.parent)
    assert made.code == 0, made.err
    edit_recipe(
        folder,
        data={"positive": POSITIVE},
        split={"folds": 3},
        evaluate={"draws": 100, "subgroups": ["site"]},
        gate={"rules": [{"metric": "test_class_accuracy", "at_least": 0.3, "bound": "lower"}]},
    )
    ran = medloop("run", cwd=folder)
    assert ran.code == 0, ran.out + ran.err
    # The challenger tells finding from none as well, and the findings apart by luck.
    edit_recipe(folder, name="worse", model={"name": "logistic_regression", "C": 1e-6})
    run_stages(folder, "tune", "train", "export", "evaluate")


@pytest.fixture(scope="session")
def tumours_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(tmp_path_factory, "tumours", make_tumours)


@pytest.fixture
def project(tumours_once: Path, tmp_path: Path) -> Path:
    return copied(tumours_once, tmp_path / "project")


def served(project: Path) -> Path:
    """The report of the version that serves."""
    return project / "models" / "versions" / "1" / "report"


def report_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "report.json").read_text("utf-8"))
    return content


def test_the_report_has_every_figure_in_both_views(tumours_once: Path) -> None:
    folder = served(tumours_once)
    report, cases = report_of(folder), pd.read_parquet(folder / "cases.parquet")
    scores = json.loads((folder / "scores.json").read_text("utf-8"))
    right = int((cases["label"] == cases["chosen"]).sum())
    told_apart = (cases["label"] == "none") == (cases["chosen"] == "none")
    assert scores["test_accuracy"] == pytest.approx(told_apart.mean())
    assert scores["test_class_accuracy"] == pytest.approx(right / len(cases))
    assert scores["test_accuracy"] > SURE > scores["test_class_accuracy"] > 0.4
    known, found = wilson(right, len(cases)), report["over_classes"]["accuracy"]
    assert (found["value"], found["lower"], found["upper"]) == pytest.approx((known.value, known.lower, known.upper))
    assert set(report["over_classes"]) == set(report["test"]) == set(METRICS)
    recall = np.mean([(cases["chosen"] == name)[cases["label"] == name].mean() for name in CLASSES])
    assert scores["test_class_recall"] == pytest.approx(recall)


def test_the_folds_are_measured_in_both_views(tumours_once: Path) -> None:
    report = report_of(served(tumours_once))
    scores, folds = report["scores"], report["cross_validation"]
    assert scores["cv_accuracy_mean"] > SURE > scores["cv_class_accuracy_mean"] > 0.4
    assert scores["cv_class_accuracy_std"] == pytest.approx(np.std(folds["class_accuracy"]["folds"], ddof=1))
    assert {f"cv_class_{name}_mean" for name in METRICS} <= set(scores)


def test_the_page_the_card_and_the_terminal_show_both(project: Path) -> None:
    folder = served(project)
    report = report_of(folder)
    both = [f"{report[part]['accuracy']['value']:.3f}" for part in ("test", "over_classes")]
    page, card = ((folder / name).read_text("utf-8") for name in ("report.html", "card.md"))
    table = page[page.index("only if it is the right one of the 4 classes") :]
    row = table[table.index("accuracy") :]
    assert 0 < row.index(both[0]) < row.index(both[1]) < row.index("balanced_accuracy")
    assert "assigned to the right one of the 4 classes" in page
    assert any(line.startswith("| accuracy |") and all(one in line for one in both) for line in card.splitlines())
    for name in CLASSES:
        figures = report["by_class"][name]
        shown = [f"{figures[one]['value']:.3f} [{figures[one]['lower']:.3f}" for one in ("recall", "precision")]
        assert all(text in page for text in shown)
        begun = f"| {name} | {figures['recall']['n']} |"
        assert any(line.startswith(begun) and all(text in line for text in shown) for line in card.splitlines())
    assert "are classified correctly as positive or negative." in page
    assert "test cases misclassified as positive or negative" in (folder / "claim.md").read_text("utf-8")
    said = medloop("evaluate", cwd=project).out
    worse = report_of(project / "work" / "report")["over_classes"]["accuracy"]["value"]
    assert f"over all 4 classes: accuracy {worse:.3f}" in said


def test_mlflow_is_told_both(tumours_once: Path) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{tumours_once / 'mlflow.db'}")
    experiment = client.search_experiments(filter_string="name != 'Default'")[0]
    logged = [run.data.metrics for run in client.search_runs([experiment.experiment_id])]
    known = report_of(served(tumours_once))["scores"]
    assert any(
        one.get("test_class_accuracy") == pytest.approx(known["test_class_accuracy"])
        and one.get("cv_class_recall_mean") == pytest.approx(known["cv_class_recall_mean"])
        and "fold_class_accuracy" in one
        for one in logged
    )


def test_models_are_compared_in_both_views(project: Path) -> None:
    edit_recipe(project, model={"C": 1.0})
    said = medloop("compare", "logistic_regression", "decision_tree", "--repeats", "1", cwd=project)
    assert said.code == 0, said.err
    lines = (project / "MODEL_SELECTION.md").read_text("utf-8").splitlines()
    plain, by_class = (
        next(number for number, line in enumerate(lines) if line.startswith(f"| model | {name}accuracy"))
        for name in ("", "class_")
    )
    column = lines[plain].split("|").index(" accuracy ")
    shown = [lines[start + 2].split("|")[column].split() for start in (plain, by_class)]
    assert float(shown[0][0]) > SURE > float(shown[1][0])
    assert f"predicts the right one of the 4 classes for {' '.join(shown[1])} of the cases" in said.out


def rules_of(folder: Path, *rules: dict[str, Any]) -> list[RuleOutcome]:
    edit_recipe(folder, gate={"rules": list(rules)})
    return list(judge_bundle(load_project(folder)).rules[RULES:])


def test_a_rule_of_the_gate_speaks_of_either_view(project: Path) -> None:
    report = report_of(project / "work" / "report")
    rules = [
        {"metric": "test_accuracy", "at_least": 0.7, "bound": "lower"},
        {"metric": "test_class_accuracy", "at_least": 0.7, "bound": "lower"},
        {"metric": "cv_class_recall_mean", "at_least": 0.9},
    ]
    plain, by_class, folds = rules_of(project, *rules)
    assert plain.found == f"{report['test']['accuracy']['lower']:.4f}"
    assert by_class.found == f"{report['over_classes']['accuracy']['lower']:.4f}"
    assert folds.found == f"{report['scores']['cv_class_recall_mean']:.4f}"
    assert (by_class.passed, folds.passed) == (False, False)


def test_the_champion_is_compared_with_in_either_view(project: Path) -> None:
    plain, by_class = rules_of(
        project,
        {"metric": "test_accuracy", "not_worse_by": 0.5},
        {"metric": "test_class_accuracy", "not_worse_by": 0.02},
    )[:2]
    new, old = (pd.read_parquet(path / "cases.parquet") for path in (project / "work" / "report", served(project)))
    gain = (new["label"] == new["chosen"]).mean() - (old["label"] == old["chosen"]).mean()
    assert by_class.found.startswith(f"{gain:+.3f} [")
    assert not by_class.passed
    assert by_class.n == plain.n == len(new)
    assert by_class.found != plain.found


def test_each_subgroup_is_held_to_the_class_view(project: Path) -> None:
    outcomes = rules_of(project, {"metric": "test_class_accuracy", "at_least": 0.1, "each": "site"})
    cases = pd.read_parquet(project / "work" / "report" / "cases.parquet")
    right = (cases["label"] == cases["chosen"]).groupby(cases["subgroup.site"].astype(str)).mean()
    assert [one.found for one in outcomes] == [f"{right[site]:.4f}" for site in ("north", "south")]


def test_two_classes_have_one_view(finished: Path) -> None:
    report = report_of(finished / "work" / "report")
    assert not [name for name in report["scores"] if "class_" in name]
    assert "class by class" not in (finished / "work" / "report" / "report.html").read_text("utf-8").lower()
