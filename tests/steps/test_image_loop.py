"""The whole loop for images: phantoms in, a registered version out, and answers for a folder."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd
import pytest
import yaml

from medloop.bundle.predictor import Predictor
from medloop.errors import UserError
from medloop.steps.compare import compare_models
from medloop.steps.images import train_images
from medloop.steps.pipeline import run_all
from medloop.steps.project import Project, load_project
from medloop.storage import read_json
from tests.loop_project import copied, edit_recipe, medloop

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


def test_the_report_shows_the_most_wrong_and_what_an_untrained_network_makes_of_the_same_cases(
    pictures: Project,
) -> None:
    folder = pictures.work / "report"
    report = read_json(folder / "report.json")
    page = (folder / "report.html").read_text("utf-8")
    assert len(report["most_wrong"]) == page.count("data:image/jpeg;base64,") > 0
    assert report["beside"]["figures"]["roc_auc"]["n"] == report["n_test"]
    assert report["study"]["patients_in_several_parts"] == 0
    assert "| 44 | Other | Funding" in (folder / "claim.md").read_text("utf-8")
    table = pd.read_parquet(folder / "cases.parquet")
    assert len(table) == report["n_test"]


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


@pytest.fixture
def again(pictures: Project, tmp_path: Path) -> Path:
    """A copy of the finished project, to change."""
    return copied(pictures.root, tmp_path / "again")


def test_tuning_heads_computes_no_feature_twice(again: Path) -> None:
    ranges = {"head_c": {"low": 1e-3, "high": 1.0, "log": True}, "balance": {"choices": ["none", "weights"]}}
    edit_recipe(again, tune={"trials": 5, "space": ranges})
    before = sorted((again / "work" / "cache" / "features").iterdir())
    done = {one.stage: one for one in run_all(load_project(again))}
    assert done["tune"].text.startswith("5 trials, best roc_auc ")
    assert not done["train"].skipped
    assert sorted((again / "work" / "cache" / "features").iterdir()) == before
    tuned = yaml.safe_load((again / "work" / "tuned.yaml").read_text("utf-8"))
    assert read_json(again / "work" / "bundle" / "bundle.json")["model"]["head_C"] == tuned["head_c"]
    trials = pd.read_csv(again / "work" / "tune" / "trials.csv")
    assert trials.loc[trials["roc_auc"].idxmax(), "head_c"] == pytest.approx(tuned["head_c"])
    for name in ("history.png", "importance.png"):
        assert (again / "work" / "tune" / name).read_bytes().startswith(b"\x89PNG")


def test_backbones_stand_side_by_side(again: Path) -> None:
    said = compare_models(load_project(again), ["resnet10t", "test_resnet", "resnet10t=champion"], repeats=2)
    text = (again / "MODEL_SELECTION.md").read_text("utf-8")
    assert said.endswith("see MODEL_SELECTION.md")
    assert "2 x 2-fold cross-validation" in text
    assert "Mode head: in every fold the strength of the head was chosen on" in text
    assert "| resnet10t | 4.9 million weights, from none |" in text
    assert "| resnet10t=champion | 4.9 million weights, from models/versions/1/bundle/weights.safetensors |" in text
    assert (again / "MODEL_SELECTION.png").read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_compared_is_told(again: Path) -> None:
    project = load_project(edit_recipe(again, model={"weights": "champion"}))
    for names, told in (
        ([], "needs their names"),
        (["resnet10=none"], "did you mean"),
        (["test_resnet"], "weights of its own"),
    ):
        with pytest.raises(UserError, match=told):
            compare_models(project, names, repeats=1)


def test_a_training_that_begins_with_the_champion_names_it_as_its_parent(again: Path) -> None:
    edit_recipe(again, model={"weights": "champion"})
    for _ in run_all(load_project(again)):
        continue
    made = read_json(again / "work" / "bundle" / "bundle.json")
    first = read_json(again / "models" / "versions" / "1" / "version.json")
    assert made["parent"] == first["bundle"]
    assert made["recipe"]["model"]["weights"] == "champion"
    assert read_json(again / "models" / "versions" / "1" / "bundle" / "bundle.json")["parent"] is None


def test_a_champion_that_cannot_be_begun_with_is_told(again: Path) -> None:
    other = load_project(edit_recipe(again, model={"weights": "champion", "backbone": "test_resnet"}))
    with pytest.raises(UserError, match="a warm start needs weights of the same backbone"):
        train_images(other, {})
    (again / "models" / "champion.json").unlink()
    with pytest.raises(UserError, match="needs a version that serves"):
        train_images(other, {})


def test_a_backbone_that_needs_another_size_is_refused_before_it_is_trained(again: Path) -> None:
    edit_recipe(again, model={"backbone": "efficientformer_l1"})
    before = (again / "work" / "trained" / "weights.safetensors").read_bytes()
    said = medloop("run", cwd=again)
    assert said.code == 2
    assert "the backbone efficientformer_l1 needs pictures of exactly 224 x 224 pixels" in said.err
    assert "set prepare.size: 224" in said.err
    assert (again / "work" / "trained" / "weights.safetensors").read_bytes() == before
