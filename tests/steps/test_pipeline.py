"""Running only what changed, in order, and saying no without promoting."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from medloop.errors import GateRefusal, UserError
from medloop.registry.store import Champion, ModelStore, read_verdict
from medloop.steps.pipeline import Done, run_all, run_stage
from medloop.steps.project import load_project
from medloop.steps.stages import STAGES
from tests.loop_project import at_least, edit_recipe, new_table, new_wisconsin, run_loop, small_rows, write_table


def ran(done: dict[str, Done]) -> list[str]:
    """The stages that were not passed over, but for the outcomes."""
    return [name for name, one in done.items() if not one.skipped and name in STAGES]


def champion_of(project: Path) -> Champion | None:
    return ModelStore(project / "models").champion()


def bundle_of(project: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((project / "work" / "bundle" / "bundle.json").read_text("utf-8"))
    return content


def test_a_second_run_passes_over_every_stage_and_registers_nothing_new(project: Path) -> None:
    before = champion_of(project)
    done = run_loop(project)
    assert list(done) == [*STAGES, "gate", "register"]
    assert ran(done) == []
    assert champion_of(project) == before
    assert [version.number for version in ModelStore(project / "models").versions()] == [1]


def test_a_run_in_which_nothing_changed_does_not_undo_a_rollback(project: Path) -> None:
    edit_recipe(project, model={"C": 0.5})
    run_loop(project)
    store = ModelStore(project / "models")
    assert store.rollback(by="me").version == 1
    assert "was rolled back" in run_loop(project)["register"].text
    champion = store.champion()
    assert champion is not None
    assert champion.version == 1


CHANGES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a hyperparameter": ({"model": {"C": 0.5}}, ["tune", "train", "export", "evaluate"]),
    "the threshold's rule": ({"export": {"threshold": "probability >= 0.4"}}, ["export", "evaluate"]),
    "the report": ({"evaluate": {"draws": 101}}, ["evaluate"]),
    "the gate": ({"gate": at_least("test_accuracy", 0.02)}, []),
    "the audit": (
        {"audit": {"range_sigmas": 5.0}},
        ["audit", "split", "train", "export", "evaluate"],
    ),
    "the name": ({"name": "renamed"}, ["export", "evaluate"]),
}


@pytest.mark.parametrize(("change", "stages"), CHANGES.values(), ids=CHANGES)
def test_a_change_of_the_recipe_runs_what_it_touches(table: Path, change: dict[str, Any], stages: list[str]) -> None:
    trained = (table / "work" / "trained" / "estimator.skops").stat().st_mtime_ns
    assert set(ran(run_loop(edit_recipe(table, **change)))) <= set(stages)
    assert ran(run_loop(table)) == []
    assert ("train" in stages) or (table / "work" / "trained" / "estimator.skops").stat().st_mtime_ns == trained


def test_a_hyperparameter_trains_again_and_changes_the_model(table: Path) -> None:
    done = run_loop(edit_recipe(table, model={"C": 0.5}))
    assert ran(done) == ["tune", "train", "export", "evaluate"]
    assert bundle_of(table)["model"]["params"]["C"] == 0.5


def test_a_threshold_does_not_train_again(table: Path) -> None:
    before = bundle_of(table)
    assert ran(run_loop(edit_recipe(table, export={"threshold": "probability >= 0.4"}))) == ["export", "evaluate"]
    after = bundle_of(table)
    assert (before["threshold"]["value"], after["threshold"]["value"]) == (0.5, 0.4)
    folds, lower = before["cross_validation"], after["cross_validation"]
    assert folds["roc_auc"] == lower["roc_auc"]
    # A lower threshold finds more, in the folds as in service.
    assert all(one <= other for one, other in zip(folds["recall"], lower["recall"], strict=True))


def test_a_name_reaches_the_bundle_and_what_is_registered(table: Path) -> None:
    run_loop(edit_recipe(table, name="renamed"))
    assert bundle_of(table)["name"] == "renamed"


def test_another_number_of_folds_keeps_the_test_cases(table: Path) -> None:
    before = (table / "work" / "edition.json").read_bytes()
    done = run_loop(table, k_folds=4)
    assert ran(done) == ["split", "tune", "train", "export", "evaluate"]
    assert (table / "work" / "edition.json").read_bytes() == before
    meta = bundle_of(table)
    assert (len(meta["cross_validation"]["recall"]), meta["recipe"]["split"]["folds"]) == (4, 4)


def test_changed_rows_run_everything_and_changed_test_rows_are_refused(table: Path, tmp_path: Path) -> None:
    rows = [dict(row) for row in small_rows(150)]
    source = tmp_path / "source.csv"
    edit_recipe(table, data={"path": str(write_table(source, rows))})
    run_loop(table)
    write_table(source, [*rows, *small_rows(10, seed=9)])
    done = run_loop(table)
    assert ran(done) == list(STAGES)
    assert "(kept)" in done["split"].text
    test_ages = {"age (years)": 18}
    write_table(source, [{**row, **test_ages} for row in rows])
    with pytest.raises(UserError, match="have changed or are missing"):
        run_loop(table)


@pytest.mark.parametrize("name", ["bundle/model.onnx", "trained/history.csv", "cases.parquet", "report/scores.json"])
def test_a_result_that_was_edited_or_lost_is_made_again(table: Path, name: str) -> None:
    path = table / "work" / name
    content = path.read_bytes()
    path.write_bytes(content + b" ")
    assert ran(run_loop(table))
    path.unlink()
    assert ran(run_loop(table))
    assert path.is_file()


def test_each_stage_says_what_it_needs(tmp_path: Path) -> None:
    project = load_project(new_wisconsin(tmp_path / "project"))
    makers = {"audit": "ingest", "split": "ingest", "prepare": "ingest", "tune": "split", "train": "split"}
    for stage, maker in {**makers, "export": "train", "evaluate": "export"}.items():
        with pytest.raises(
            UserError, match=rf"`medloop {stage}` needs work/.*, which does not exist\. Run `medloop {maker}` first\."
        ):
            run_stage(project, stage)
    with pytest.raises(UserError, match=r"report\.json"):
        run_stage(project, "gate")
    with pytest.raises(GateRefusal, match="Run `medloop gate`"):
        run_stage(project, "register")


def test_a_refused_model_is_kept_but_does_not_serve(project: Path) -> None:
    before = champion_of(project)
    edit_recipe(project, model={"C": 0.5}, gate=at_least("test_recall", 1.0))
    seen = []
    with pytest.raises(GateRefusal, match=r"NO  test_recall: needed >= 1, found 0\.") as refusal:
        seen += [done.stage for done in run_all(load_project(project))]
    store = ModelStore(project / "models")
    assert refusal.value.exit_code == 3
    assert champion_of(project) == before
    assert [version.verdict.passed for version in store.versions()] == [True, False]
    assert not json.loads((project / "work" / "verdict.json").read_text("utf-8"))["passed"]
    with pytest.raises(GateRefusal):
        store.promote(2, by="me")


def test_a_gate_that_was_relaxed_lets_the_same_bundle_serve(project: Path) -> None:
    edit_recipe(project, model={"C": 0.5}, gate=at_least("test_recall", 1.0))
    with pytest.raises(GateRefusal):
        run_loop(project)
    done = run_loop(edit_recipe(project, gate=at_least("test_recall", 0.5)))
    assert ran(done) == []
    champion = champion_of(project)
    assert champion is not None
    assert (champion.version, champion.previous) == (3, 1)
    run_loop(project)
    assert len(list(ModelStore(project / "models").versions())) == 3


def test_a_smoke_run_uses_a_fifth_and_changes_nothing_of_the_full_run(project: Path) -> None:
    work = {path: path.read_bytes() for path in (project / "work").rglob("*.json")}
    models = sorted((project / "models").rglob("*"))
    with pytest.raises(GateRefusal, match="not a smoke run"):
        run_loop(project, smoke=True)
    smoke = json.loads((project / "work" / "smoke" / "bundle" / "bundle.json").read_text("utf-8"))
    assert smoke["smoke"]
    assert smoke["recipe"]["split"]["folds"] == 3
    assert smoke["calibration"]["n"] == pytest.approx(0.8 * 0.2 * 569, abs=8)
    assert {path: path.read_bytes() for path in work} == work
    assert sorted((project / "models").rglob("*")) == models


def test_a_smoke_run_cannot_be_registered_by_hand_either(project: Path) -> None:
    with pytest.raises(GateRefusal):
        run_loop(project, smoke=True)
    smoke = project / "work" / "smoke"
    store = ModelStore(project / "models")
    version = store.register(smoke / "bundle", smoke / "report", read_verdict(smoke / "verdict.json"))
    with pytest.raises(GateRefusal):
        store.promote(version.number, by="me")
    assert run_stage(load_project(project, smoke=True), "register").text == "a smoke run is not registered"


def test_a_tracking_server_that_is_away_stops_nothing_and_is_told(project: Path) -> None:
    done = run_loop(edit_recipe(project, model={"C": 0.5}))
    assert done["register"].text.startswith("version 2 promoted")
    assert "not mirrored" in done["register"].text
    assert "127.0.0.1:1" in done["register"].text


def test_open_severe_findings_stop_the_training(table: Path, tmp_path: Path) -> None:
    rows = [{**row, "told": "x" if row["diagnosis"] == "malignant" else "y"} for row in small_rows(150)]
    edit_recipe(table, data={"path": str(write_table(tmp_path / "leak.csv", rows))}, split={"seed": 1})
    with pytest.raises(UserError, match="severe findings: leaking_column"):
        run_loop(table)
    edit_recipe(table, audit={"accept": ["leaking_column"]})
    run_loop(table)
    report = json.loads((table / "work" / "report" / "report.json").read_text("utf-8"))
    assert report["accepted_findings"] == ["leaking_column"]


def test_without_a_positive_class_the_hint_names_one(table: Path) -> None:
    with pytest.raises(UserError, match=r"`data\.positive: \[malignant\]`"):
        run_loop(edit_recipe(table, data={"positive": []}))


def test_shuffled_labels_give_chance_and_a_no(tmp_path: Path) -> None:
    rows = [dict(row) for row in small_rows(240, seed=11)]
    labels = [row["diagnosis"] for row in rows]
    random.Random(2).shuffle(labels)  # noqa: S311 - an order, not a secret
    mixed = [{**row, "diagnosis": label} for row, label in zip(rows, labels, strict=True)]
    project = new_table(tmp_path / "chance", mixed)
    edit_recipe(project, gate=at_least("test_roc_auc", 0.8), evaluate={"draws": 1000})
    with pytest.raises(GateRefusal):
        run_loop(project)
    report = json.loads((project / "work" / "report" / "report.json").read_text("utf-8"))
    auc = report["test"]["roc_auc"]
    folds = report["cross_validation"]["roc_auc"]
    assert auc["lower"] <= 0.5 <= auc["upper"]
    assert folds["lower"] <= 0.5 <= folds["upper"]
    assert champion_of(project) is None


def test_a_patient_is_on_one_side_only_and_the_report_knows_of_patients(tmp_path: Path) -> None:
    rows = [{"who": f"p{number // 4}", **row} for number, row in enumerate(small_rows(240))]
    project = new_table(tmp_path / "patients", rows, patient="who")
    run_loop(project)
    splits = pd.read_parquet(project / "work" / "splits.parquet").set_index("case_id")
    cases = pd.read_parquet(project / "work" / "cases.parquet").set_index("case_id")
    assert (splits["part"].groupby(cases["patient_id"]).nunique() == 1).all()
    assert "who" not in [column["name"] for column in bundle_of(project)["preparer"]["columns"]]
    card = (project / "work" / "report" / "card.md").read_text("utf-8")
    assert "new patients" not in card


def test_the_same_recipe_gives_the_same_figures(finished: Path, tmp_path: Path) -> None:
    again = new_wisconsin(tmp_path / "finished")
    run_loop(again)
    names = ("splits.parquet", "edition.json", "trained/history.csv", "bundle/model.onnx", "report/scores.json")
    for name in names:
        assert (again / "work" / name).read_bytes() == (finished / "work" / name).read_bytes(), name
