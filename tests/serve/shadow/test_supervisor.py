"""What the shadow compares, what it leaves out, when it is given up, and what it says of all this."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from medloop.bundle import files
from medloop.bundle.predictor import Predictor
from medloop.case import Prediction, Row
from medloop.feedback import Answered, open_feedback
from medloop.feedback import reader as reading
from medloop.registry.store import ModelStore
from medloop.serve.shadow import process as shadow_module
from medloop.serve.shadow import supervisor as shadowing_module
from medloop.serve.shadow.process import shadow
from medloop.serve.shadow.report import NOTHING_TO_DO, Pair, ShadowReport, Task
from medloop.serve.shadow.supervisor import ShadowSupervisor, lower_priority
from medloop.settings import FeedbackSettings, ServeSettings, Settings, ShadowSettings
from tests.registry.versions import bundle_like, planted
from tests.serve.shadow.challengers import contested_store, found, is_right, register, shadows
from tests.serve.test_lifecycle import wait_until


@pytest.fixture
def store(golden: Path, tmp_path: Path) -> ModelStore:
    return contested_store(golden, tmp_path)


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else writes, so an answer may be looked at at once."""
    monkeypatch.setattr(reading, "SETTLED", timedelta(0))
    monkeypatch.setattr(shadow_module, "POLL_SECONDS", 0.01)


def answer(store: ModelStore, rows: list[Row], *, keep: bool = True) -> list[Prediction]:
    """Answers of the champion, stored."""
    champion = store.champion()
    assert champion
    predictions = Predictor.load(store.bundle(champion.version)).predict(rows)
    settings = FeedbackSettings(keep_inputs=keep)
    with closing(open_feedback(settings, root=store.folder.parent)) as feedback:
        for prediction, row in zip(predictions, rows, strict=True):
            feedback.record([Answered(prediction=prediction, kind="table", row=row)])
    return predictions


def task_of(store: ModelStore, **shadow: Any) -> Task:
    settings = Settings(
        shadow=ShadowSettings(**{"share": 1.0, "idle": False, **shadow}), serve=ServeSettings(watch_seconds=0.02)
    )
    return Task(settings=settings, folder=store.folder.parent, pair=Pair.of(store))


@contextmanager
def running(task: Task) -> Iterator[threading.Event]:
    """The process's work, on a thread."""
    ended = threading.Event()
    thread = threading.Thread(target=shadow, args=(task, ended))
    thread.start()
    try:
        yield ended
    finally:
        ended.set()
        thread.join()


def test_a_task_survives_the_pipe(store: ModelStore) -> None:
    task = task_of(store)
    assert Task.from_json(task.to_json()) == task


@pytest.mark.usefixtures("settled")
def test_counts_continue_after_a_restart(store: ModelStore, rows: list[Row]) -> None:
    task = task_of(store)
    answer(store, rows[:12])
    with running(task):
        wait_until(lambda: found(store)["scored"] == 12)
    since = found(store)["since"]
    answer(store, rows[12:])
    with running(task):
        wait_until(lambda: found(store)["scored"] == len(rows))
    report = found(store)
    is_right(report, store, rows)
    assert report["since"] == since
    again = ShadowReport.read(task.file, task.pair).tally.to_json()
    # A mean that is read becomes a sum again, in its last digit perhaps another one.
    assert again.pop("processor_ms") == pytest.approx(report["processor_ms"])
    assert again == {name: report[name] for name in again}


@pytest.mark.usefixtures("settled")
def test_a_challenger_that_falls_behind_skips_predictions(store: ModelStore, rows: list[Row]) -> None:
    task = task_of(store, most_behind=60)
    answer(store, rows[:1])
    with running(task):
        wait_until(lambda: found(store)["scored"] == 1)
    many = (rows * 10)[:100]
    answer(store, many)
    with running(task):
        wait_until(lambda: found(store)["scored"] == 1 + shadow_module.PAGE)
        wait_until(lambda: found(store)["behind"] == 0)
    assert found(store)["skipped"] == {"fallen behind": len(many) - shadow_module.PAGE}


@pytest.mark.usefixtures("settled")
def test_only_predictions_of_the_champion_are_compared(store: ModelStore, golden: Path, rows: list[Row]) -> None:
    answer(store, rows)
    store.promote(2, by="me")
    register(store, bundle_like(golden, store.folder.parent / "three", name="three"))
    task = task_of(store)
    with running(task):
        wait_until(lambda: found(store)["why"] == "The champion has made no prediction yet.")
    answer(store, rows[:4])
    with running(task):
        wait_until(lambda: found(store)["scored"] == 4)


@pytest.mark.usefixtures("settled")
def test_accepted_corrections_show_which_version_was_right(store: ModelStore, rows: list[Row]) -> None:
    task = task_of(store)
    predictions = answer(store, rows)
    with running(task):
        wait_until(lambda: found(store)["scored"] == len(rows))
    differing = [one for one in found(store)["differences"] if one["champion"]["label"] and one["challenger"]["label"]]
    with closing(open_feedback(FeedbackSettings(), root=store.folder.parent)) as feedback:
        correction = feedback.correct(differing[0]["id"], differing[0]["challenger"]["label"], "seen twice", "ann")
        feedback.review(correction.id, "accepted", "bob")
        other = next(one for one in predictions if one.id not in {one["id"] for one in differing})
        feedback.correct(other.id, "malignant", "not reviewed", "ann")
    with running(task):
        wait_until(lambda: found(store)["corrected"] == {"differences": 1, "champion": 0, "challenger": 1})


@pytest.mark.usefixtures("settled")
def test_rows_that_were_not_stored_are_counted_separately(store: ModelStore, rows: list[Row]) -> None:
    task = task_of(store)
    answer(store, rows[:3], keep=False)
    with running(task):
        wait_until(lambda: found(store).get("skipped") == {"input not kept": 3})
    assert found(store)["why"] == "The inputs of the predictions are no longer stored."


def other_columns(golden: Path) -> dict[str, Any]:
    meta = files.read_meta(golden)
    columns = [{**one, "name": "weight" if one["name"] == "c0" else one["name"]} for one in meta["preparer"]["columns"]]
    return {"preparer": {**meta["preparer"], "columns": columns}}


UNFIT = {
    "other_classes": (lambda _: {"classes": ["benign", "cancer"], "positive": ["cancer"]}, "has other classes"),
    "other_columns": (other_columns, "needs columns that requests do not have: weight"),
    "another_kind": (
        lambda _: {"preparer": {"kind": "image"}},
        "inputs of kind table, and the challenger of kind image",
    ),
    "other_thresholds": (lambda _: {"threshold": "high"}, "cannot be loaded"),
}


@pytest.mark.parametrize(("change", "why"), UNFIT.values(), ids=UNFIT)
def test_a_challenger_that_cannot_be_compared_is_reported(
    store: ModelStore, golden: Path, change: Any, why: str
) -> None:
    root = store.folder.parent
    open_feedback(FeedbackSettings(), root=root).close()
    # Today none of them is registered, but an older medloop did.
    planted(store, 3, bundle_like(golden, root / "three", **change(golden)))
    task = task_of(store)
    assert shadow(task, threading.Event()) == NOTHING_TO_DO
    assert why in found(store)["why"]
    assert str(root) not in found(store)["why"]


def test_a_challenger_that_has_changed_is_not_used(store: ModelStore) -> None:
    open_feedback(FeedbackSettings(), root=store.folder.parent).close()
    task = task_of(store)
    model = store.version(2).folder / "bundle" / files.MODEL
    model.write_bytes(model.read_bytes() + b" ")
    assert shadow(task, threading.Event()) == NOTHING_TO_DO
    assert found(store)["why"].startswith("The challenger cannot be loaded")
    assert files.MODEL in found(store)["why"]


def test_a_process_of_low_priority_gets_idle_time_only() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        lower_priority(process.pid)
        assert os.sched_getscheduler(process.pid) == os.SCHED_IDLE
        assert os.getpriority(os.PRIO_PROCESS, process.pid) == 19
        process.kill()


SWITCHED_OFF = {
    "inputs": (Settings(feedback=FeedbackSettings(keep_inputs=False)), "Inputs are not kept (feedback.keep_inputs)"),
    "shadow": (Settings(shadow=ShadowSettings(enabled=False)), "switched off (shadow.enabled)"),
}


@pytest.mark.parametrize(("settings", "why"), SWITCHED_OFF.values(), ids=SWITCHED_OFF)
def test_the_reason_for_not_shadowing_is_reported(store: ModelStore, settings: Settings, why: str) -> None:
    quick = settings.model_copy(update={"serve": ServeSettings(watch_seconds=0.02)})
    with ShadowSupervisor(quick, folder=store.folder.parent, store=store):
        wait_until(lambda: why in (found(store)["why"] or ""))
        assert os.getpid() not in shadows().values()


def test_a_challenger_that_keeps_crashing_is_given_up(
    store: ModelStore, golden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadowing_module, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(shadowing_module, "MAX_CRASHES", 2)
    root = store.folder.parent
    open_feedback(FeedbackSettings(), root=root).close()
    # Less than loading takes, and of the timers only that of the wall clock is so fine.
    task = task_of(store, case_seconds=0.0001)
    with ShadowSupervisor(task.settings, folder=root, store=store):
        wait_until(lambda: "was given up" in (found(store)["why"] or ""))
        assert found(store)["failed"] == {"hung": 2}
        assert os.getpid() not in shadows().values()
        register(store, bundle_like(golden, root / "three", name="three"))
        wait_until(lambda: (found(store)["challenger"] or {}).get("version") == 3)
