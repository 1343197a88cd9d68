"""The whole loop for images: phantoms in, a registered version out, and answers for a folder."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd
import pytest
import yaml

from medloop.bundle.predictor import Predictor
from medloop.errors import UserError
from medloop.serve.run import run_service
from medloop.steps.pipeline import run_all
from medloop.steps.project import Project, load_project
from medloop.storage import read_json
from tests.loop_project import medloop

RECIPE = {
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


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "params.yaml").write_text(yaml.safe_dump(RECIPE), "utf-8")
    project = load_project(folder)
    for _ in run_all(project):
        continue
    return project


def test_the_loop_ends_with_a_version_that_serves(pictures: Project) -> None:
    assert read_json(pictures.models / "champion.json")["version"] == 1


def test_the_report_counts_patients_where_the_bundle_decides_by_patient(pictures: Project) -> None:
    report = read_json(pictures.work / "report" / "report.json")
    splits = pd.read_parquet(pictures.work / "splits.parquet").query("part == 'test'")
    assert report["n_test"] == splits["group"].nunique() < len(splits)


def test_a_second_run_trains_nothing(pictures: Project) -> None:
    done = {one.stage: one for one in run_all(pictures)}
    assert done["prepare"].skipped
    assert done["train"].skipped
    assert done["export"].skipped


def test_a_folder_is_answered_and_a_bad_file_is_named(pictures: Project, tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    for number, path in enumerate(pictures.cases()["path"][:3]):
        (tmp_path / "scans" / f"{number}.png").write_bytes((pictures.root / path).read_bytes())
    (tmp_path / "scans" / "notes.png").write_text("no picture", "utf-8")
    said = medloop("predict", "scans", "--bundle", pictures.work / "bundle", "--out", "answers.csv", cwd=tmp_path)
    assert said.code == 0, said.err
    with (tmp_path / "answers.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [bool(row["rejected"]) for row in rows] == [False, False, False, True]


def test_a_heatmap_is_a_picture(pictures: Project) -> None:
    predictor = Predictor.load(pictures.work / "bundle")
    path = pictures.root / pictures.cases()["path"][0]
    assert predictor.heatmap(path.read_bytes()).startswith(b"\x89PNG")


def test_the_service_says_that_it_answers_for_tables_only(pictures: Project) -> None:
    with pytest.raises(UserError, match="the service answers for tables so far"):
        run_service(pictures.settings, folder=pictures.root, bundle=None, port=0)


def test_tuning_says_that_it_is_for_tables_only(pictures: Project) -> None:
    from medloop.steps import stages

    recipe = pictures.recipe.with_values("tune", trials=3)
    wanting = Project(root=pictures.root, recipe=recipe, settings=pictures.settings)
    with pytest.raises(UserError, match="tuning is for tables so far"):
        stages.tune(wanting)
