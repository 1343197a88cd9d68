"""The whole loop for images: phantoms in, a registered version out, and answers for a folder."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml
from safetensors.torch import load_file, save_file

from medloop.bundle.predictor import Predictor
from medloop.errors import UserError
from medloop.steps.compare import compare_models
from medloop.steps.dvc import write_lock
from medloop.steps.kinds.images import Images
from medloop.steps.pipeline import last_message, run_all, run_stage
from medloop.steps.project import Project, load_project
from medloop.storage import read_json
from tests.loop_project import copied, edit_recipe, medloop, run_stages


@pytest.fixture(scope="module")
def pictures(finished_pictures: Path) -> Project:
    return load_project(finished_pictures)


def test_the_loop_ends_with_a_version_that_serves(pictures: Project) -> None:
    assert read_json(pictures.models / "champion.json")["version"] == 1


def test_the_report_counts_patients_where_the_bundle_decides_by_patient(pictures: Project) -> None:
    report = read_json(pictures.work / "report" / "report.json")
    splits = pd.read_parquet(pictures.work / "splits.parquet").query("part == 'test'")
    assert report["n_test"] == splits["patient"].nunique() < len(splits)


def test_the_report_shows_the_most_wrong_and_what_an_untrained_network_makes_of_the_same_cases(
    pictures: Project,
) -> None:
    folder = pictures.work / "report"
    report = read_json(folder / "report.json")
    page = (folder / "report.html").read_text("utf-8")
    assert len(report["most_wrong"]) == page.count("data:image/jpeg;base64,") > 0
    assert report["beside"]["figures"]["roc_auc"]["n"] == report["n_test"]
    assert report["study"]["patients_in_several_parts"] == 0
    assert "| 44 | Other information | Funding" in (folder / "claim.md").read_text("utf-8")
    table = pd.read_parquet(folder / "cases.parquet")
    assert len(table) == report["n_test"]


def test_a_head_is_calibrated_out_of_fold_on_train_and_val(pictures: Project) -> None:
    meta = read_json(pictures.work / "bundle" / "bundle.json")
    splits = pd.read_parquet(pictures.work / "splits.parquet").query("part in ('train', 'val')")
    found = meta["calibration"]
    assert found["fitted_on"] == "out-of-fold training and validation cases"
    assert (found["n"], found["patients"], found["folds"]) == (len(splits), splits["group"].nunique(), 3)
    assert meta["threshold"]["positives"]["cases"] == meta["threshold"]["positives"]["patients"]
    assert sum(one["patients"] for one in meta["conformal"]["by_class"].values()) == splits["group"].nunique()
    assert meta["cross_validation"]["fold"] == [0, 1, 2]


def test_a_second_run_trains_nothing(again: Path) -> None:
    done = {one.stage: one for one in run_all(load_project(again))}
    assert done["prepare"].skipped
    assert done["train"].skipped
    assert done["export"].skipped


def test_a_folder_is_answered_and_a_bad_file_is_named(pictures: Project, tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    for number, path in enumerate(pictures.cases()["path"][:3]):
        (tmp_path / "scans" / f"{number}.png").write_bytes((pictures.root / path).read_bytes())
    (tmp_path / "scans" / "notes.png").write_text("no picture", "utf-8")
    rows = [f"scans/{number}.png,p{number // 2}" for number in range(3)]
    (tmp_path / "who.csv").write_text("\n".join(["file,patient", *rows]), "utf-8")
    words = ("--patients", "who.csv", "--bundle", pictures.work / "bundle", "--out", "answers.csv")
    said = medloop("predict", "scans", *words, cwd=tmp_path)
    assert said.code == 0, said.err
    with (tmp_path / "answers.csv").open(encoding="utf-8") as file:
        answers = list(csv.DictReader(file))
    assert [(row["patient"], bool(row["rejected"])) for row in answers] == [("", True), ("p0", False), ("p1", False)]


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
        ([], "No backbones to compare"),
        (["resnet10=none"], "Did you mean"),
        (["test_resnet"], "which belongs to another backbone"),
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


def test_weights_of_another_content_train_again(again: Path) -> None:
    weights = again / "weights.safetensors"
    shutil.copy(again / "models" / "versions" / "1" / "bundle" / "weights.safetensors", weights)
    edit_recipe(again, model={"weights": weights.name})
    run_stages(again, "tune", "train")
    write_lock(load_project(again))
    assert last_message(load_project(again), "train")
    state = load_file(weights)
    save_file({name: values * 1.01 for name, values in state.items()}, weights)
    assert last_message(load_project(again), "train") is None
    assert write_lock(load_project(again))
    assert run_stage(load_project(again), "train").why == "changed: the file weights.safetensors (model.weights)"


def test_another_champion_trains_again_but_not_the_one_that_this_training_made(again: Path) -> None:
    edit_recipe(again, model={"weights": "champion"})
    for _ in run_all(load_project(again)):
        continue
    assert read_json(again / "models" / "champion.json")["version"] == 2
    assert last_message(load_project(again), "train")
    pointer = again / "models" / "champion.json"
    pointer.write_text(json.dumps({**read_json(pointer), "bundle": "0" * 64}), "utf-8")
    assert last_message(load_project(again), "train") is None


def test_another_number_of_folds_keeps_the_bound_between_onnx_and_the_model(again: Path) -> None:
    weights = again / "work" / "trained" / "weights.safetensors"
    state = load_file(weights)
    save_file({**state, "head.bias": state["head.bias"] * float("nan")}, weights)
    for words in ([], ["--k-folds", "3"]):
        said = medloop("export", *words, cwd=again)
        assert said.code == 2
        assert "more than 0.0001 (export.parity)" in said.err


def test_a_champion_that_cannot_be_begun_with_is_told(again: Path) -> None:
    other = load_project(edit_recipe(again, model={"weights": "champion", "backbone": "test_resnet"}))
    with pytest.raises(UserError, match="weights of the warm start differ"):
        Images().train(other, {})
    (again / "models" / "champion.json").unlink()
    with pytest.raises(UserError, match="no version has been promoted yet"):
        Images().train(other, {})


def test_a_backbone_that_needs_another_size_is_refused_before_it_is_trained(again: Path) -> None:
    edit_recipe(again, model={"backbone": "efficientformer_l1"})
    before = (again / "work" / "trained" / "weights.safetensors").read_bytes()
    said = medloop("run", cwd=again)
    assert said.code == 2
    assert "The backbone efficientformer_l1 needs images of exactly 224 x 224 pixels" in said.err
    assert "Set prepare.size: 224" in said.err
    assert (again / "work" / "trained" / "weights.safetensors").read_bytes() == before
