"""Errors that the user can fix: a problem and a hint, exit code 2 and no stack trace."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from medloop.storage import file_lock
from tests.loop_project import Ended, at_least, copied, edit_recipe, medloop, small_rows, write_table

STAGES = ("ingest", "split", "prepare", "tune", "train", "export", "evaluate", "gate", "register")
OUTSIDE = [
    *([stage] for stage in STAGES),
    *(["audit"], ["run"], ["run", "--smoke"], ["compare"], ["models", "list"], ["models", "verify"]),
    *(["models", "rollback"], ["models", "promote", "1"], ["models", "show", "1"]),
]


def assert_told(said: Ended, *words: str, code: int = 2) -> None:
    """A problem and what to do about it, without a traceback."""
    assert said.code == code, said
    assert said.err.startswith("medloop: ")
    assert "Traceback" not in said.err + said.out
    for word in words:
        assert word.lower() in said.err.lower()


@pytest.mark.parametrize("words", OUTSIDE, ids=" ".join)
def test_outside_a_project_each_command_says_how_to_make_one(tmp_path: Path, words: list[str]) -> None:
    assert_told(medloop(*words, cwd=tmp_path), "params.yaml", "medloop new NAME")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stage", ["audit", "split", "prepare", "tune", "train", "export", "evaluate", "gate"])
def test_in_a_new_project_each_stage_says_what_comes_before_it(tmp_path: Path, stage: str) -> None:
    medloop("new", "fresh", cwd=tmp_path)
    assert_told(medloop(stage, cwd=tmp_path / "fresh"), "run")


def test_nothing_is_registered_without_a_verdict(tmp_path: Path) -> None:
    medloop("new", "fresh", cwd=tmp_path)
    assert_told(medloop("register", cwd=tmp_path / "fresh"), "medloop gate", code=3)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["models", "promote", "9"], "no version 9; the store has 1"),
        (["models", "show", "9"], "no version 9; the store has 1"),
        (["models", "rollback"], "no previous version"),
        (["compare", "random_forrest"], "Did you mean 'random_forest'"),
        (["predict", "absent.csv"], "absent.csv"),
        (["predict", "params.yaml"], "params.yaml"),
        (["predict", "absent.csv", "--out", "x.txt"], ".parquet"),
        (["predict", "absent.csv", "--bundle", "work"], "bundle"),
        (["serve", "--host", "192.168.1.1"], "192.168.1.1"),
        (["serve", "--bundle", "absent"], "bundle"),
        (["audit", "absent.csv", "--label", "x"], "absent.csv"),
        (["new", "."], "already exists"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_word_in_a_finished_project_is_told(finished: Path, words: list[str], told: str) -> None:
    assert_told(medloop(*words, cwd=finished), told)


def test_without_a_champion_there_is_nothing_to_ask(tmp_path: Path) -> None:
    write_table(tmp_path / "table.csv", small_rows(3))
    for words in (["predict", "table.csv"], ["serve"]):
        assert_told(medloop(*words, cwd=tmp_path), "no version has been promoted yet")


def test_answers_that_cannot_be_written_are_told(golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_table(tmp_path / "in.csv", small_rows(3))
    (tmp_path / "out.csv").mkdir()
    predict = ("predict", "in.csv", "--bundle", str(golden), "--out")
    assert_told(medloop(*predict, "out.csv", cwd=tmp_path), "--out is a folder: out.csv")
    assert_told(medloop(*predict, "in.csv/out.csv", cwd=tmp_path), "in.csv cannot be read or written (File exists)")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.csv"]

    monkeypatch.setattr("medloop.bundle.batch.score._line", failing(errno.ENOSPC))
    assert_told(medloop(*predict, "other.csv", cwd=tmp_path), "No space left on device")
    monkeypatch.setattr("medloop.bundle.batch.score._line", failing(errno.ECONNREFUSED))
    with pytest.raises(ConnectionRefusedError):
        medloop(*predict, "other.csv", cwd=tmp_path)


def failing(number: int) -> Callable[..., None]:
    """What the system refuses with this error, and without the name of a file."""

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("audit", "cases.parquet"),
        ("prepare", "cases.parquet"),
        ("train", "prepared/table.parquet"),
        ("train", "splits.parquet"),
        ("export", "trained/out_of_fold.parquet"),
        ("evaluate", "splits.parquet"),
        ("gate", "splits.parquet"),
    ],
)
def test_a_table_that_was_cut_short_is_told(project: Path, command: str, name: str) -> None:
    table = project / "work" / name
    table.write_bytes(table.read_bytes()[:-100])
    assert_told(medloop(command, cwd=project), f"{table.name} is not a valid Parquet file")


def test_an_unknown_key_is_told_with_the_nearest(project: Path) -> None:
    edit_recipe(project, model={"name": "logistic_regression"}, trane={"seed": 1})
    assert_told(medloop("run", cwd=project), "'trane' in params.yaml", "Did you mean 'train'")


def test_an_unknown_setting_is_told_before_anything_is_done(project: Path) -> None:
    (project / "config.yaml").write_text("serve: {port: many}\n", encoding="utf-8")
    for words in (["run"], ["serve"], ["predict", "x.csv"]):
        assert_told(medloop(*words, cwd=project), "serve.port")


def test_the_gate_ends_with_3_and_its_reasons(project: Path) -> None:
    edit_recipe(project, gate=at_least("test_recall", 1.0))
    for words in (["gate"], ["run"]):
        said = medloop(*words, cwd=project)
        assert_told(said, "NO  test_recall: needed >= 1, found 0.", code=3)


def test_an_unknown_figure_in_the_gate_is_no_refusal(project: Path) -> None:
    edit_recipe(project, gate=at_least("cv_recal_mean", 0.9))
    assert_told(medloop("gate", cwd=project), "Did you mean 'cv_recall_mean'")


def test_a_broken_store_is_told_and_the_service_refuses_it(project: Path) -> None:
    (project / "models" / "versions" / "1" / "bundle" / "model.onnx").write_bytes(b"")
    assert_told(medloop("models", "verify", cwd=project), "version 1", "model.onnx")
    assert_told(medloop("serve", cwd=project), "model.onnx")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["x", "--like", "brest-cancer"], "Did you mean 'breast-cancer'"),
        (["x", "--data", "table.csv"], "--data needs --label"),
        (["1x"], "1x is not a valid project name"),
        (["a b"], "a b is not a valid project name"),
        (["full"], "full already exists"),
        (["file"], "file already exists"),
    ],
)
def test_a_project_that_cannot_be_made_is_told(tmp_path: Path, words: list[str], told: str) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    (tmp_path / "file").touch()
    assert_told(medloop("new", *words, cwd=tmp_path), told)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full"]


def test_a_second_run_at_the_same_time_is_told(project: Path) -> None:
    shutil.rmtree(project / "work" / "bundle")
    with file_lock(project / "work" / ".bundle.partial.lock"):
        assert_told(medloop("export", cwd=project), "Another command is writing here")


def test_no_message_holds_the_machines_paths(small: Path, tmp_path: Path) -> None:
    project = copied(small, tmp_path / "project")
    for words in (["models", "promote", "9"], ["serve"], ["register"]):
        assert str(tmp_path) not in medloop(*words, cwd=project).err
