"""The commands a user types, and what they print."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from medloop.registry.store import ModelStore
from tests.loop_project import at_least, copied, edit_recipe, medloop, run_loop, small_rows, write_table


def typed(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, with MLflow's store in the project."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    command = [sys.executable, "-m", "medloop", *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def promoted(project: Path) -> list[float]:
    with sqlite3.connect(project / "mlflow.db") as connection:
        rows = connection.execute("select value from latest_metrics where key = 'promoted' order by value").fetchall()
    connection.close()
    return [value for (value,) in rows]


def test_a_run_from_the_shell_ends_with_0_or_3_as_the_gate_decides(project: Path, empty_store: Path) -> None:
    shutil.copy(empty_store, project)
    edit_recipe(project, model={"C": 0.5})
    passed = typed("run", cwd=project)
    assert passed.returncode == 0, passed.stderr
    assert "version 2 promoted: it is now served, in the journal; MLflow run" in passed.stdout
    edit_recipe(project, gate=at_least("test_recall", 1.0))
    refused = typed("run", cwd=project)
    assert refused.returncode == 3
    assert "version 3 stored, not promoted" in refused.stdout
    assert "NO  test_recall" in refused.stderr
    champion = ModelStore(project / "models").champion()
    assert champion is not None
    assert champion.version == 2
    assert promoted(project) == [0, 1]
    assert "Traceback" not in passed.stderr + refused.stderr


def test_a_run_prints_a_line_a_stage_and_keeps_a_log(project: Path) -> None:
    edit_recipe(project, evaluate={"draws": 101})
    said = medloop("run", cwd=project)
    lines = [line.split()[0] for line in said.out.splitlines() if line[:1].isalpha()]
    assert said.code == 0
    assert lines[:8] == ["ingest", "audit", "split", "prepare", "tune", "train", "export", "evaluate"]
    assert "unchanged" in said.out
    assert "evaluate" in (project / "logs" / "run.log").read_text("utf-8")


def test_stages_can_be_typed_one_by_one(tmp_path: Path) -> None:
    write_table(tmp_path / "my table.csv", small_rows(120))
    made = medloop("new", "mine", "--data", "my table.csv", "--label", "diagnosis", cwd=tmp_path)
    assert made.code == 0, made.err
    project = edit_recipe(tmp_path / "mine", data={"positive": ["malignant"]}, evaluate={"draws": 100})
    for stage in ("ingest", "audit", "split", "prepare", "tune", "train", "export", "evaluate"):
        said = medloop(stage, "--k-folds", "3", cwd=project) if stage != "audit" else medloop(stage, cwd=project)
        assert said.code == 0, said.err
        assert said.out.startswith(stage)
    report = json.loads((project / "work" / "report" / "report.json").read_text("utf-8"))
    assert report["recipe"]["split"]["folds"] == 3


def test_a_smoke_run_ends_with_3_and_promotes_nothing(project: Path) -> None:
    before = ModelStore(project / "models").champion()
    said = medloop("run", "--smoke", cwd=project)
    assert said.code == 3
    assert "a smoke run is not registered" in said.out
    assert "not a smoke run" in said.err
    assert ModelStore(project / "models").champion() == before


def test_predict_answers_a_file_and_names_the_bad_row(golden: Path, tmp_path: Path) -> None:
    rows = [dict(row) for row in small_rows(5)]
    rows[3]["c0"] = "n. a."
    write_table(tmp_path / "in.csv", rows)
    said = medloop("predict", "in.csv", "--bundle", str(golden), cwd=tmp_path)
    assert (said.code, said.out) == (0, "4 cases predicted, 1 rejected; see predictions.csv\n")
    with (tmp_path / "predictions.csv").open(encoding="utf-8") as file:
        assert [line["row"] for line in csv.DictReader(file) if line["rejected"]] == ["5"]


def test_predict_writes_parquet_too(golden: Path, tmp_path: Path) -> None:
    write_table(tmp_path / "in.csv", small_rows(5))
    said = medloop("predict", "in.csv", "--bundle", str(golden), "--out", "out.parquet", cwd=tmp_path)
    assert said.code == 0, said.err
    table = pd.read_parquet(tmp_path / "out.parquet")
    assert table["p_benign"].add(table["p_malignant"]).to_numpy() == pytest.approx(1)


def test_predict_asks_the_champion_by_default(finished: Path, tmp_path: Path) -> None:
    cases = pd.read_parquet(finished / "work" / "cases.parquet").head(3)
    values = cases[[name for name in cases if name.startswith("row.")]]
    values.rename(columns=lambda name: name.removeprefix("row.")).to_csv(tmp_path / "in.csv", index=False)
    said = medloop("predict", str(tmp_path / "in.csv"), "--out", str(tmp_path / "out.csv"), cwd=finished)
    assert said.out.startswith("3 cases predicted, 0 rejected")


@pytest.fixture(scope="module")
def two(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two versions, the second of which serves."""
    project = copied(finished, tmp_path_factory.mktemp("two") / "project")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        run_loop(edit_recipe(project, model={"C": 0.5}))
    return project


def test_the_store_is_listed_for_people_and_for_programs(two: Path) -> None:
    plain, rows = medloop("models", "list", cwd=two).out, json.loads(medloop("models", "list", "--json", cwd=two).out)
    assert [(row["version"], row["serves"], row["gate"]) for row in rows] == [
        ("1", "previous", "passed"),
        ("2", "champion", "passed"),
    ]
    assert plain.splitlines()[0].split()[:4] == ["version", "serves", "gate", "model"]
    assert medloop("models", "show", "1", cwd=two).out.startswith("# Model card: finished")


def test_a_second_person_sets_the_reference_version(two: Path, tmp_path: Path) -> None:
    project = copied(two, tmp_path / "project")
    (project / "models" / "reference.json").unlink()
    migrated = medloop("models", "migrate", "--json", cwd=project)
    assert json.loads(migrated.out)["reference"]["version"] == 1
    assert medloop("models", "migrate", cwd=project).out == "nothing to migrate\n"
    serves = ModelStore(project / "models").champion()
    assert serves is not None
    for user, code in ((serves.by, 3), ("Ben", 0)):
        (project / "config.yaml").write_text(f"user: {user}\n", encoding="utf-8")
        ended = medloop("models", "reference", str(serves.version), cwd=project)
        assert ended.code == code, ended.err
    assert ended.out.startswith(f"version {serves.version} is the reference version, instead of version 1; in the jour")
    rows = json.loads(medloop("models", "list", "--json", cwd=project).out)
    assert [row["version"] for row in rows if row["reference"] == "yes"] == [str(serves.version)]


def test_rollback_and_promote_say_what_serves_now(two: Path) -> None:
    back: dict[str, Any] = json.loads(medloop("models", "rollback", "--json", cwd=two).out)
    assert (back["version"], back["previous"]) == (1, 2)
    assert "not mirrored" in back["mirror"]
    again = json.loads(medloop("models", "promote", "2", "--json", cwd=two).out)
    assert (again["version"], again["previous"]) == (2, 1)


def test_verify_says_how_each_version_is(two: Path) -> None:
    said = medloop("models", "verify", cwd=two)
    assert said.code == 0
    assert [line.split(";")[0] for line in said.out.splitlines()] == [f"version {number} verified" for number in (1, 2)]


def test_doctor_ends_with_2_where_something_is_wrong(project: Path) -> None:
    said = medloop("doctor", cwd=project)
    assert said.code == 0
    assert "ok  recipe" in said.out
    edit_recipe(project, split={"test": 3})
    said = medloop("doctor", "--json", cwd=project)
    assert said.code == 2
    assert [one["what"] for one in json.loads(said.out) if one["ok"] is False] == ["recipe"]


def test_compare_writes_its_table_and_picture(project: Path) -> None:
    said = medloop("compare", "decision_tree", "--repeats", "1", cwd=project)
    assert said.out.startswith("decision_tree leads with AUC 0.")
    assert (project / "MODEL_SELECTION.md").is_file()
    assert (project / "MODEL_SELECTION.png").is_file()


def test_any_table_can_be_audited_without_a_project(tmp_path: Path) -> None:
    rows = [{**row, "always": 1} for row in small_rows(60)]
    write_table(tmp_path / "in.csv", rows)
    said = medloop("audit", "in.csv", "--label", "diagnosis", cwd=tmp_path)
    assert said.code == 0, said.err
    assert re.search(r"constant.*always", said.out)
    assert (tmp_path / "medloop-audit" / "report" / "audit.html").is_file()


def test_the_demo_shows_the_whole_loop_and_its_figures(tmp_path: Path) -> None:
    said = medloop("demo", "--no-serve", "--only", "breast-cancer", cwd=tmp_path)
    assert said.code == 0, said.err
    report = json.loads(
        (tmp_path / "medloop-demo" / "breast-cancer" / "work" / "report" / "report.json").read_text("utf-8")
    )
    folds = report["cross_validation"]
    assert len(folds["accuracy"]["folds"]) == 10
    assert folds["accuracy"]["mean"] == pytest.approx(0.98, abs=0.01)
    assert folds["roc_auc"]["mean"] > 0.99
    for word in (f"{folds['accuracy']['mean']:.4f}", f"{folds['roc_auc']['std']:.4f}", "95% interval", "curl -s"):
        assert word in said.out
    again = medloop("demo", "--no-serve", "--only", "breast-cancer", cwd=tmp_path)
    assert again.out.count("unchanged") == 8
