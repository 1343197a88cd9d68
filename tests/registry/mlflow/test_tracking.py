"""The mirror in MLflow, on a real SQLite store: the names that dashboards know, the artifacts, the aliases."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest

from medloop.bundle.predictor import Predictor
from medloop.errors import GateRefusal, UserError
from medloop.registry.mlflow.tracking import Tracker, tracker_for
from medloop.registry.store import ModelStore
from medloop.steps import versions
from medloop.steps.project import load_project
from tests.loop_project import at_least, copied, edit_recipe, run_loop


def client_of(project: Path) -> Any:
    """MLflow's own client for the project's store."""
    return mlflow.MlflowClient(f"sqlite:///{project / 'mlflow.db'}", f"sqlite:///{project / 'mlflow.db'}")


def runs_of(project: Path) -> list[Any]:
    client = client_of(project)
    return list(client.search_runs([one.experiment_id for one in client.search_experiments()]))


@pytest.fixture(scope="module")
def run(finished: Path) -> Any:
    """The one run of the finished project."""
    runs = runs_of(finished)
    assert len(runs) == 1
    return runs[0]


@pytest.fixture(scope="module")
def history(finished: Path, empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose second model was refused, its third promoted; the first was promoted before."""
    project = copied(finished, tmp_path_factory.mktemp("history") / "history")
    shutil.copy(empty_store, project)
    run_loop(project)
    with pytest.raises(GateRefusal):
        run_loop(edit_recipe(project, model={"C": 0.5}, gate=at_least("test_recall", 1.0)))
    run_loop(edit_recipe(project, model={"C": 0.25}, gate=at_least("test_recall", 0.5)))
    return project


def test_parameters_have_the_names_that_dashboards_know(run: Any, finished: Path) -> None:
    report = json.loads((finished / "work" / "report" / "report.json").read_text("utf-8"))
    expected = {
        "k_folds": "3",
        "lr_C": "1.0",
        "random_state": "0",
        "n_features": "30",
        "model_type": "logistic_regression",
        "n_samples_train": "456",
        "n_samples_test": "113",
        "data_version": report["data_version"],
    }
    assert expected.items() <= run.data.params.items()
    assert {"edition", "positive", "threshold_rule", "lr_max_iter"} <= set(run.data.params)


def test_metrics_have_the_names_that_dashboards_know(run: Any, finished: Path) -> None:
    scores = json.loads((finished / "work" / "report" / "scores.json").read_text("utf-8"))
    assert {"cv_accuracy_mean", "cv_recall_std", "test_accuracy", "test_roc_auc"} <= set(scores)
    assert scores.items() <= run.data.metrics.items()
    assert run.data.metrics["promoted"] == 1


def test_every_fold_is_logged(run: Any, finished: Path) -> None:
    report = json.loads((finished / "work" / "report" / "report.json").read_text("utf-8"))
    history = client_of(finished).get_metric_history(run.info.run_id, "fold_recall")
    assert [(one.step, one.value) for one in sorted(history, key=lambda one: one.step)] == list(
        enumerate(report["cross_validation"]["recall"]["folds"])
    )


def test_the_artifacts_are_there(run: Any, finished: Path) -> None:
    names = {one.path for one in client_of(finished).list_artifacts(run.info.run_id)}
    assert {
        *("confusion_matrix.png", "classification_report.txt", "run_summary.json", "report.html", "report.json"),
        *("card.md", "scores.json", "verdict.json"),
    } <= names
    source = client_of(finished).get_model_version_by_alias("finished", "champion").source
    assert (Path(source.removeprefix("file://")) / "data" / "bundle" / "model.onnx").is_file()
    assert run.info.status == "FINISHED"


def test_no_artifact_is_a_pickle(finished: Path) -> None:
    endings = {path.suffix for path in (finished / "mlruns").rglob("*") if path.is_file()}
    assert not endings & {".pkl", ".pickle", ".joblib", ".pt"}


def test_the_registered_version_carries_its_origin(run: Any, finished: Path) -> None:
    version = client_of(finished).get_model_version_by_alias("finished", "champion")
    known = ModelStore(finished / "models").version(1)
    assert version.run_id == run.info.run_id
    assert {"medloop_version": "1", "bundle": known.bundle, "verdict": "passed"}.items() <= version.tags.items()


@pytest.fixture
def tracked(finished: Path) -> Iterator[None]:
    """The process looks at the finished project's store, as a user would after setting the address."""
    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    mlflow.set_tracking_uri(f"sqlite:///{finished / 'mlflow.db'}")
    mlflow.set_registry_uri(f"sqlite:///{finished / 'mlflow.db'}")
    yield
    mlflow.set_tracking_uri(before[0])
    mlflow.set_registry_uri(before[1])
    os.environ.pop("MLFLOW_TRACKING_URI", None)


@pytest.mark.usefixtures("tracked")
def test_mlflow_loads_the_champion_and_it_predicts_as_the_bundle_does(finished: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what MLflow says of its own environment is not ours
        model = mlflow.pyfunc.load_model("models:/finished@champion")
        predictor = Predictor.load(finished / "work" / "bundle")
        cases = pd.read_parquet(finished / "work" / "cases.parquet").head(20)
        frame = cases[[f"row.{name}" for name in predictor.preparer.names]].set_axis(predictor.preparer.names, axis=1)
        frame.iloc[0, 0] = float("nan")
        answers = model.predict(frame)
    rows = [{**row, "mean radius": None} if number == 0 else row for number, row in enumerate(frame.to_dict("records"))]
    for answer, said in zip(answers, predictor.predict(rows), strict=True):
        assert answer["malignant"] == pytest.approx(said.probabilities["malignant"], abs=1e-6)
        assert (answer["label"], answer["abstained"], answer["reason"]) == (said.label, said.abstained, said.reason)


def test_a_refused_model_is_recorded_as_not_promoted(history: Path) -> None:
    promoted = {one.data.params["lr_C"]: one.data.metrics["promoted"] for one in runs_of(history)}
    assert promoted == {"1.0": 1, "0.5": 0, "0.25": 1}
    tags = {one.data.tags["medloop_version"]: one.data.tags["verdict"] for one in runs_of(history)}
    assert tags == {"1": "passed", "2": "refused", "3": "passed"}


def aliases(project: Path) -> dict[str, str]:
    model = client_of(project).get_registered_model("finished")
    numbers = {str(one.version): one.tags["medloop_version"] for one in client_of(project).search_model_versions("")}
    return {alias: numbers[str(number)] for alias, number in model.aliases.items()}


def test_aliases_follow_promotion_rollback_and_promotion_again(history: Path) -> None:
    assert aliases(history) == {"champion": "3", "previous": "1"}
    project = load_project(history)
    told = versions.rollback(project)
    assert told["mirror"].startswith("MLflow run ")
    assert (told["version"], aliases(history)) == (1, {"champion": "1", "previous": "3"})
    assert versions.promote(project, 3)["version"] == 3
    assert aliases(history) == {"champion": "3", "previous": "1"}


def test_recording_twice_is_once(history: Path) -> None:
    before = len(runs_of(history))
    lines = versions.verify(load_project(history))
    assert len(lines) == 3
    assert all("MLflow run" in line for line in lines)
    assert len(runs_of(history)) == before


def test_a_run_that_a_kill_left_open_is_ended(history: Path, empty_store: Path, tmp_path: Path) -> None:
    project = copied(history, tmp_path / "history")
    shutil.copy(empty_store, project)
    tracker, version = versions.tracker_of(load_project(project)), ModelStore(project / "models").version(2)
    client = client_of(project)
    experiment = client.create_experiment("finished", (project / "mlruns").as_uri())
    left = client.create_run(experiment, tags={"bundle": version.bundle, "medloop_version": "2"}).info.run_id
    tracker.record(version, promoted=False)
    assert {one.info.run_id: one.info.status for one in runs_of(project)}[left] == "KILLED"
    assert sorted(one.info.status for one in runs_of(project)) == ["FINISHED", "KILLED"]


def test_a_kill_while_the_store_is_made_leaves_none_that_is_broken(history: Path, tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    tracker = Tracker(uri=uri, experiment="x", artifacts=(tmp_path / "mlruns").as_uri())
    script = (
        "from medloop.registry.mlflow.tracking import Tracker; "
        f"Tracker(uri={uri!r}, experiment='x', artifacts=None).client()"
    )
    begun = tmp_path / ".mlflow.db.partial" / "mlflow.db"
    with subprocess.Popen([sys.executable, "-c", script]) as process:
        while process.poll() is None and not (begun.is_file() and begun.stat().st_size):
            time.sleep(0.01)
        process.kill()
    assert not (tmp_path / "mlflow.db").exists()
    tracker.record(ModelStore(history / "models").version(1), promoted=True)
    assert mlflow.MlflowClient(uri, uri).get_registered_model("finished").name == "finished"


def test_what_a_server_that_was_away_missed_is_mirrored_later(
    finished: Path, empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = copied(finished, tmp_path / "project")
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "http://someone:secret@127.0.0.1:1")  # pragma: allowlist secret
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        told = run_loop(edit_recipe(project, model={"C": 0.5}))["register"].text
    assert "version 2 promoted" in told
    assert "`medloop models verify` retries it" in told
    assert "secret" not in told
    assert not (project / "mlflow.db").exists()
    shutil.copy(empty_store, project)
    versions.verify(load_project(project))
    assert aliases(project) == {"champion": "2", "previous": "1"}


def test_a_renamed_project_is_registered_under_its_new_name(history: Path, empty_store: Path, tmp_path: Path) -> None:
    project = copied(history, tmp_path / "history")
    shutil.copy(empty_store, project)
    run_loop(edit_recipe(project, name="renamed"))
    store = ModelStore(project / "models")
    champion = store.champion()
    assert champion is not None
    known = client_of(project).get_model_version_by_alias("renamed", "champion")
    assert known.tags["medloop_version"] == str(champion.version)
    assert versions.rollback(load_project(project))["mirror"].startswith("MLflow run ")


def test_two_projects_of_one_name_on_one_server_keep_apart(history: Path, empty_store: Path, tmp_path: Path) -> None:
    store, other = ModelStore(history / "models"), tmp_path / "other"
    shutil.copytree(history / "models" / "versions", other / "versions")
    uri = f"sqlite:///{shutil.copy(empty_store, tmp_path)}"
    tracker = Tracker(uri=uri, experiment="shared", artifacts=(tmp_path / "mlruns").as_uri())
    tracker.record(store.version(1), promoted=True)
    twin = replace(ModelStore(other).version(3), number=1)
    tracker.record(twin, promoted=True)
    tracker.point(twin, None)
    client = mlflow.MlflowClient(uri, uri)
    assert client.get_model_version_by_alias("finished", "champion").tags["bundle"] == twin.bundle


@pytest.mark.parametrize(
    ("uri", "expected", "local"),
    [
        ("sqlite:///mlflow.db", "sqlite:////root/mlflow.db", True),
        ("sqlite:////elsewhere/mlflow.db", "sqlite:////elsewhere/mlflow.db", False),
        ("https://dagshub.com/a/b.mlflow", "https://dagshub.com/a/b.mlflow", False),
    ],
)
def test_a_store_of_the_project_lies_in_the_project(
    monkeypatch: pytest.MonkeyPatch, uri: str, expected: str, local: bool
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tracker = tracker_for(Path("/root"), uri=uri, experiment="x")
    assert tracker.uri == expected
    assert tracker.artifacts == ("file:///root/mlruns" if local else None)


def test_the_environment_goes_before_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    tracker = tracker_for(Path("/root"), uri="sqlite:///mlflow.db", experiment="x")
    assert (tracker.uri, tracker.experiment) == ("http://mlflow.example", "mine")


def test_an_error_of_the_server_is_one_sentence(history: Path, tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"not a database")
    tracker = Tracker(uri=f"sqlite:///{tmp_path / 'mlflow.db'}", experiment="x", artifacts=None)
    with pytest.raises(UserError, match=r"The MLflow server at .* cannot be used"):
        tracker.record(ModelStore(history / "models").version(1), promoted=True)
