"""Tuning searches the declared ranges, goes on where it stopped, and is shared by processes."""

from __future__ import annotations

import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from medloop.errors import UserError
from medloop.recipe import ModelSection, TuneSection
from medloop.train import study
from medloop.train.learning import TableLearning, read_learning
from medloop.train.tune import Judge, Report, Tuned, Untrainable, table_judge, tune
from tests.postgres import running_postgres

MODEL = ModelSection(name="logistic_regression")
SPACE = {"C": {"low": 0.01, "high": 10.0, "log": True}, "class_weight": {"choices": ["balanced", None]}}
X = {"x": {"low": 0.0, "high": 1.0}}


@dataclass
class MemoryLog:
    """A log that keeps everything in memory."""

    rows: list[Mapping[str, float]] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    names: list[int] = field(default_factory=list)

    def open(self, number: int, _values: Mapping[str, Any]) -> MemoryLog:
        self.names.append(number)
        return self

    def log(self, row: Mapping[str, float]) -> None:
        self.rows.append(row)

    def end(self, *, state: str) -> None:
        self.states.append(state)


def run(judge: Judge, storage: Path | str, log: MemoryLog | None = None, **section: Any) -> Tuned:
    content = TuneSection.model_validate({"trials": 4, "metric": "roc_auc", "space": X, **section})
    return tune(judge, content, storage=address(storage), name="test", open_log=(log or MemoryLog()).open)


def address(storage: Path | str) -> str:
    return f"sqlite:///{storage}" if isinstance(storage, Path) else storage


def nearest_a_third(values: Mapping[str, Any], _report: Report) -> float:
    return float(1 - abs(values["x"] - 1 / 3))


@pytest.fixture(scope="module")
def learning(small: Path) -> TableLearning:
    return read_learning(small / "work" / "prepared", small / "work" / "splits.parquet")


def test_the_best_lies_in_the_ranges_and_is_the_least_far_from_ideal(learning: TableLearning, tmp_path: Path) -> None:
    tuned = run(table_judge(learning, MODEL, "roc_auc", seed=0), tmp_path / "study.db", space=SPACE)
    assert 0.01 <= tuned.best["C"] <= 10
    assert tuned.trials["state"].tolist() == ["complete"] * 4
    assert tuned.trials.loc[tuned.trials["roc_auc"].idxmax(), "C"] == tuned.best["C"]
    assert tuned.figure == tuned.trials["roc_auc"].max()


def test_a_loss_is_made_small_and_a_score_large(learning: TableLearning, tmp_path: Path) -> None:
    space = {"C": {"choices": [1e-6, 1.0]}}
    for metric in ("brier", "roc_auc"):
        judge = table_judge(learning, MODEL, metric, seed=0)
        assert run(judge, tmp_path / f"{metric}.db", metric=metric, space=space).best == {"C": 1.0}, metric


def test_booleans_choices_and_signed_numbers_are_drawn_and_kept_as_they_are(tmp_path: Path) -> None:
    space = {
        "shrink": {"choices": [True, False]},
        "shape": {"choices": ["round", None]},
        "offset": {"low": -4, "high": -1, "whole": True},
    }

    def judge(values: Mapping[str, Any], _report: Report) -> float:
        return float(values["shrink"] is True) + float(values["shape"] is None) - values["offset"] / 10

    for trials in (4, 12):
        tuned = run(judge, tmp_path / "study.db", trials=trials, space=space)
    assert tuned.figure == judge(tuned.best, lambda _row: None)
    assert isinstance(tuned.best["shrink"], bool)
    assert set(tuned.trials["offset"]) <= {-4, -3, -2, -1}


def test_a_study_that_stopped_ends_as_one_that_did_not(tmp_path: Path) -> None:
    whole = run(nearest_a_third, tmp_path / "whole.db", trials=12).trials
    run(nearest_a_third, tmp_path / "stopped.db", trials=3)
    stopped = run(nearest_a_third, tmp_path / "stopped.db", trials=12).trials
    assert stopped["x"].tolist() == whole["x"].tolist()
    assert whole["x"].nunique() == 12


def test_a_trial_that_the_others_beat_is_given_up(tmp_path: Path) -> None:
    def learn(values: Mapping[str, Any], report: Report) -> float:
        for epoch in range(1, 6):
            report({"epoch": epoch, "roc_auc": values["x"] * epoch / 5})
        return float(values["x"])

    log = MemoryLog()
    tuned = run(learn, tmp_path / "study.db", log, trials=12, seed=1)
    pruned = tuned.trials.query("state == 'pruned'")
    assert 0 < len(pruned) < 8
    assert (pruned["epochs"] >= study.WARMUP_EPOCHS).all()
    assert pruned["trial"].min() >= study.STARTUP_TRIALS
    assert tuned.best["x"] == tuned.trials.query("state == 'complete'")["x"].max()
    assert sorted(log.states) == sorted(tuned.trials["state"])
    assert sum("epoch" in row for row in log.rows) == tuned.trials["epochs"].sum()


def test_values_that_learn_nothing_do_not_end_the_study(tmp_path: Path) -> None:
    def diverge(values: Mapping[str, Any], _report: object) -> float:
        if values["x"] > 0.5:
            raise Untrainable("NaN")
        return float(values["x"])

    tuned = run(diverge, tmp_path / "study.db", trials=10)
    assert tuned.best["x"] <= 0.5
    assert set(tuned.trials["state"]) == {"complete", "pruned"}
    assert len(tuned.trials) == 10

    def never(_values: object, _report: object) -> float:
        raise Untrainable("NaN")

    with pytest.raises(UserError, match="All 4 trials were pruned or diverged"):
        run(never, tmp_path / "never.db")


def test_an_error_ends_the_study_and_its_trial_does_not_count(tmp_path: Path) -> None:
    def broken(_values: object, _report: object) -> float:
        raise UserError("x", "z")

    log = MemoryLog()
    for judge in (broken, lambda _values, _report: float("nan")):
        with pytest.raises(UserError):
            run(judge, tmp_path / "study.db", log)
    assert log.states == ["failed", "failed"]
    assert len(run(nearest_a_third, tmp_path / "study.db").trials) == 4


def test_importances_separate_ranges_that_matter_from_others(tmp_path: Path) -> None:
    space = {**X, "idle": {"low": 0, "high": 9, "whole": True}}
    tuned = run(nearest_a_third, tmp_path / "study.db", trials=16, space=space)
    assert tuned.importances["x"] > 0.7 > tuned.importances["idle"]
    assert sum(tuned.importances.values()) == pytest.approx(1)
    assert run(nearest_a_third, tmp_path / "few.db", trials=2).importances == {}


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead process is noticed after seconds."""
    monkeypatch.setattr(study, "HEARTBEAT", 1)
    monkeypatch.setattr(study, "GRACE", 3)


def begin(storage: Path | str, *, trials: int, seconds: float) -> int:
    """A process of its own, which has the libraries loaded already, at work on the study; its number."""
    with warnings.catch_warnings():
        # From Python 3.12 on a fork beside other threads is warned of; this child does nothing else.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        code = 1
        try:
            run(slow(seconds), storage, trials=trials)
            code = 0
        finally:
            os._exit(code)
    return child


def slow(seconds: float) -> Judge:
    def judge(values: Mapping[str, Any], report: Report) -> float:
        time.sleep(seconds)
        return nearest_a_third(values, report)

    return judge


def trials_in(storage: Path | str) -> list[Any]:
    section = TuneSection.model_validate({"space": X})
    with study.open_study(section, storage=address(storage), name="test") as opened:
        return list(opened.get_trials())


def wait_for(truth: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not truth():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def has_begun(file: Path) -> bool:
    return file.exists() and any(trial.params for trial in trials_in(file))


@pytest.mark.usefixtures("hasty")
def test_the_trial_of_a_process_that_was_killed_is_done_again_by_the_next(tmp_path: Path) -> None:
    file = tmp_path / "study.db"
    child = begin(file, trials=3, seconds=1000)
    wait_for(lambda: has_begun(file))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    killed = trials_in(file)[-1]
    log = MemoryLog()
    tuned = run(nearest_a_third, file, log, trials=3)
    assert [trial.state.name for trial in trials_in(file)].count("FAIL") == 1
    assert len(tuned.trials) == 3
    assert killed.params["x"] in tuned.trials["x"].tolist()
    assert killed.number in log.names


@pytest.fixture(params=["sqlite", "postgresql"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path | str]:
    """A file, or a database on a server of its own."""
    if request.param == "sqlite":
        yield tmp_path / "study.db"
        return
    with running_postgres() as server:
        yield server.url("postgres")


@pytest.mark.usefixtures("hasty")
def test_processes_that_share_a_study_do_no_trial_too_many(storage: Path | str) -> None:
    log = MemoryLog()
    assert trials_in(storage) == []
    children = [begin(storage, trials=12, seconds=0.2) for _ in range(2)]
    tuned = run(slow(0.2), storage, log, trials=12)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    assert len(tuned.trials) == 12
    assert sum(trial.state.name == "COMPLETE" for trial in trials_in(storage)) == 12
    assert tuned.trials["x"].nunique() == 12
    assert len(log.names) < 12


def test_nobody_waits_for_a_trial_that_has_ended_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(nearest_a_third, tmp_path / "study.db", trials=2)
    section = TuneSection.model_validate({"space": X})
    with study.open_study(section, storage=address(tmp_path / "study.db"), name="test") as opened:
        monkeypatch.setattr(study.time, "sleep", lambda seconds: pytest.fail(f"waits {seconds} s"))
        study.wait_for_others(opened)


def test_a_database_that_cannot_be_opened_is_reported_without_its_password(tmp_path: Path) -> None:
    section = TuneSection.model_validate({"trials": 1, "space": X})
    (tmp_path / "study.db").write_bytes(b"no database at all, but some text of a good length")
    with pytest.raises(UserError, match="Could not open the tuning study"):
        run(nearest_a_third, tmp_path / "study.db")
    uri = "postgresql://someone:secret@127.0.0.1:1/studies"  # pragma: allowlist secret
    with pytest.raises(UserError, match=r"postgresql at 127\.0\.0\.1") as error:
        tune(nearest_a_third, section, storage=uri, name="test", open_log=MemoryLog().open)
    assert "secret" not in str(error.value)
