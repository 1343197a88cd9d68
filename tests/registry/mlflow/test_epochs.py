"""Figures reach MLflow behind the training's back: in batches, and never at its cost."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import mlflow
import pytest

from medloop.registry.mlflow import epochs, tracking
from medloop.registry.mlflow.epochs import EpochLog
from medloop.registry.mlflow.tracking import Tracker
from medloop.registry.store import ModelStore, Version
from medloop.storage import read_json, write_json

ROW = {"fold": -1, "train_loss": 0.5, "val_loss": 0.4, "roc_auc": 0.9, "images_per_s": 100.0}


def rows(count: int) -> list[dict[str, float]]:
    return [{**ROW, "epoch": epoch} for epoch in range(1, count + 1)]


@pytest.fixture
def store(empty_store: Path, tmp_path: Path) -> Tracker:
    """A SQLite store of its own."""
    uri = f"sqlite:///{shutil.copy(empty_store, tmp_path)}"
    return Tracker(uri=uri, experiment="x", artifacts=(tmp_path / "mlruns").as_uri())


def runs_in(tracker: Tracker) -> dict[str, Any]:
    client = mlflow.MlflowClient(tracker.uri, tracker.uri)
    found = client.search_runs([one.experiment_id for one in client.search_experiments()])
    return {run.info.run_name: run for run in found}


def test_every_epoch_is_there_under_names_that_say_what_they_are(store: Tracker) -> None:
    with EpochLog(store) as log, log.run("train", tags={"a": "b"}, params={"train.epochs": 3}) as run:
        for row in rows(3):
            run.log(row)
        run.log({**ROW, "fold": 1, "epoch": 2})
        run.tag(training="t")
    found = runs_in(store)["train"]
    assert (found.info.status, found.data.params) == ("FINISHED", {"train.epochs": "3"})
    assert {"a": "b", "training": "t", "state": "complete"}.items() <= found.data.tags.items()
    names = {"train_loss", "val_loss", "val_roc_auc", "images_per_s"}
    assert set(found.data.metrics) == names | {f"fold1_{name}" for name in names}
    history = mlflow.MlflowClient(store.uri).get_metric_history(found.info.run_id, "val_roc_auc")
    assert [(one.step, one.value) for one in history] == [(1, 0.9), (2, 0.9), (3, 0.9)]


def test_a_run_that_goes_on_is_joined_and_one_that_ended_is_not(store: Tracker) -> None:
    first = store.begin("train", tags={"a": "b"}, params={})
    assert store.begin("train", tags={"a": "b"}, params={}) == first
    assert store.begin("train", tags={"a": "c"}, params={}) != first
    store.tag(first, {"state": "failed"})
    assert runs_in(store)["train"]
    assert store.begin("train", tags={"a": "b"}, params={}) != first


def test_trials_are_children(store: Tracker) -> None:
    with EpochLog(store) as log, log.run("tune", tags={"study": "s"}) as parent:
        for number in range(3):
            child = log.run(f"trial {number}", tags={"study": "s"}, params={"C": number}, parent=parent)
            child.log({"tune_roc_auc": 0.8})
            child.end(state="pruned" if number else "failed")
    found = runs_in(store)
    assert set(found) == {"tune", "trial 0", "trial 1", "trial 2"}
    parents = {run.data.tags.get("mlflow.parentRunId") for name, run in found.items() if name != "tune"}
    assert parents == {found["tune"].info.run_id}
    assert [found[f"trial {n}"].info.status for n in range(3)] == ["FAILED", "FINISHED", "FINISHED"]


def test_rows_go_in_batches(store: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    log_points = Tracker.log_points
    monkeypatch.setattr(Tracker, "log_points", lambda *args: (sizes.append(len(args[2])), log_points(*args)))
    with EpochLog(store) as log, log.run("train", tags={}) as run:
        for row in rows(600):
            run.log(row)
    assert sum(sizes) == 600 * 4
    assert len(sizes) <= 3


def test_an_interrupted_work_ends_its_run_as_failed(store: Tracker) -> None:
    def work() -> None:
        with EpochLog(store) as log, log.run("train", tags={}) as run:
            run.log(rows(1)[0])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert runs_in(store)["train"].info.status == "FAILED"


def test_without_a_tracker_nothing_happens() -> None:
    with EpochLog(None) as log, log.run("train", tags={}) as run:
        run.log(rows(1)[0])


@pytest.fixture
def trained(finished: Path, tmp_path: Path) -> Version:
    """A version whose report names its training."""
    version = ModelStore(finished / "models").version(1)
    folder = tmp_path / "version"
    shutil.copytree(version.folder, folder)
    report = read_json(folder / "report" / "report.json")
    write_json(folder / "report" / "report.json", {**report, "model": {**report["model"], "training": "t"}})
    return replace(version, folder=folder)


def test_the_run_of_the_training_becomes_that_of_the_first_version(store: Tracker, trained: Version) -> None:
    with EpochLog(store) as log, log.run("train", tags={}, params={"train.epochs": 1}) as run:
        run.log({**ROW, "epoch": 1})
        run.tag(training="t")
    began = runs_in(store)["train"].info.run_id
    assert store.record(trained, promoted=True) == began
    assert store.record(replace(trained, number=2), promoted=False) != began
    found = runs_in(store)
    assert set(found) == {"finished 1", "finished 2"}
    assert found["finished 1"].info.status == "FINISHED"
    assert {"val_roc_auc", "test_roc_auc", "promoted"} <= set(found["finished 1"].data.metrics)
    assert {"train.epochs", "k_folds", "lr_C"} <= set(found["finished 1"].data.params)
    assert "val_roc_auc" not in found["finished 2"].data.metrics


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epochs, "BATCH_SECONDS", 0.1)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")


@pytest.fixture
def server(empty_store: Path, tmp_path: Path) -> Iterator[tuple[Tracker, int]]:
    """MLflow's own server, in a process of its own; with the number of that."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    # Without the programs around it, which take a minute to start.
    script = f"from mlflow.server import app; app.run(port={port}, threaded=True)"
    store = f"sqlite:///{shutil.copy(empty_store, tmp_path)}"
    settings = {**os.environ, "_MLFLOW_SERVER_FILE_STORE": store, "_MLFLOW_SERVER_ARTIFACT_ROOT": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", script], env=settings, stderr=subprocess.DEVNULL) as process:
        try:
            while not is_well(uri):
                time.sleep(0.1)
            yield Tracker(uri=uri, experiment="x", artifacts=None), process.pid
        finally:
            process.kill()


def is_well(uri: str) -> bool:
    try:
        return httpx.get(f"{uri}/health", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.usefixtures("quick")
def test_a_server_that_stands_still_or_dies_costs_the_training_nothing(
    server: tuple[Tracker, int], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker, number = server
    caplog.set_level(logging.INFO, "medloop")
    with EpochLog(tracker) as log, log.run("well", tags={}) as run:
        run.log(rows(1)[0])
    assert runs_in(tracker)["well"].info.status == "FINISHED"
    assert caplog.messages == []
    monkeypatch.setattr(epochs, "FLUSH_SECONDS", 0.5)
    for how, told in ((signal.SIGSTOP, "not all were accepted"), (signal.SIGKILL, "server at http://")):
        caplog.clear()
        spent = log_while(tracker, lambda how=how: os.kill(number, how))  # type: ignore[misc]
        assert spent < 2
        assert [told in message for message in caplog.messages] == [True]


def log_while(tracker: Tracker, happen: Any) -> float:
    """The longest that one row took, when something happens to the server between two of them."""
    longest = 0.0
    with EpochLog(tracker) as log, log.run("train", tags={}) as run:
        for number, row in enumerate(rows(20)):
            if number == 5:
                happen()
            started = time.perf_counter()
            run.log(row)
            longest = max(longest, time.perf_counter() - started)
            time.sleep(0.05)
    return longest


DATABASE = "postgresql://someone:secret@127.0.0.1:1/x"  # pragma: allowlist secret


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("uri", ["http://127.0.0.1:1", DATABASE])
def test_a_server_that_is_away_is_told_once(uri: str, caplog: pytest.LogCaptureFixture) -> None:
    started = time.perf_counter()
    log_while(Tracker(uri=uri, experiment="x", artifacts=None), lambda: None)
    assert time.perf_counter() - started < 40
    assert len(caplog.messages) == 1
    assert "are not in MLflow" in caplog.messages[0]
    assert "secret" not in caplog.text


def test_a_database_that_is_away_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "CONNECT_SECONDS", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        tracker = Tracker(uri=f"postgresql://127.0.0.1:{silent.getsockname()[1]}/x", experiment="x", artifacts=None)
        with pytest.raises(OSError, match="refused"):
            tracker.client()
