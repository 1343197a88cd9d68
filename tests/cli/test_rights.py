"""Where a file must not be read or written, or the disk is full, each command says so in one message that names it."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from medloop.decode.parallel import MIN_FILES_FOR_PROCESSES, each_chunk
from medloop.decode.pool import Sandbox
from medloop.storage.faults import explain_fault
from tests.cli.test_errors import assert_told
from tests.loop_project import Ended, copied, edit_recipe, small_rows, write_table

# To root the rights of files mean nothing, unless the process gives this power up for good.
DROP_FROM_BOUNDS, DAC_OVERRIDE, DAC_READ_SEARCH = 24, 1, 2
READ_ONLY = [
    (["new", "fresh"], "{folder}"),
    (["run"], "{folder}"),
    (["run", "--smoke"], "{folder}"),
    (["ingest"], "{folder}"),
    (["demo"], "{folder}"),
    (["audit", "rows.csv", "--label", "diagnosis"], "{folder}"),
    (["predict", "rows.csv", "--bundle", "work/bundle"], "{folder}"),
    (["predict", "rows.csv", "--bundle", "work/bundle", "--out", "out/answers.csv"], "{folder}"),
    (["serve", "--port", "0"], "feedback.db"),
    (["models", "promote", "1"], "{folder}/models"),
    (["models", "rollback"], "{folder}/models"),
    (["keys", "create", "me"], "feedback.db"),
    (["db", "upgrade"], "feedback.db"),
]


def as_anybody() -> None:
    """Give up root's power over the rights of files."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        for power in (DAC_OVERRIDE, DAC_READ_SEARCH):
            assert libc.prctl(DROP_FROM_BOUNDS, power, 0, 0, 0) == 0


def with_room_for(size: int) -> None:
    """Let no file become larger, which is to the program as a full disk is."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def command(*words: str, cwd: Path, begin: Callable[[], None] = as_anybody) -> Ended:
    """The command in a process of its own, which begins with giving something up."""
    done = subprocess.run(
        [sys.executable, "-m", "medloop", *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=begin,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def read_only(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project that nobody may write to, with rows to predict."""
    project = copied(finished, tmp_path_factory.mktemp("rights") / "project")
    (project / "feedback.db").touch()
    write_table(project / "rows.csv", small_rows(10))
    places = [project, *project.rglob("*")]
    for place in places:
        place.chmod(place.stat().st_mode & ~0o222)
    yield project
    for place in places:
        place.chmod(place.stat().st_mode | 0o200)


@pytest.mark.parametrize(("words", "place"), READ_ONLY, ids=[" ".join(words) for words, _ in READ_ONLY])
def test_a_folder_that_must_not_be_written_is_named(read_only: Path, words: list[str], place: str) -> None:
    done = command(*words, cwd=read_only)
    assert_told(done, "cannot be read or written", place.format(folder=read_only), f"Give user {os.geteuid()} access")
    assert len(done.err.splitlines()) == 1


def test_a_database_that_must_not_be_written_is_named(project: Path) -> None:
    assert command("keys", "create", "me", cwd=project).code == 0
    for path in project.glob("feedback.db*"):
        path.chmod(0o400)
    assert_told(command("keys", "create", "you", cwd=project), "feedback.db", "Give user")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("params.yaml", ["run"]),
        ("config.yaml", ["serve", "--port", "0"]),
        ("work/cases.parquet", ["audit"]),
        ("models/versions/1/bundle/model.onnx", ["serve", "--port", "0"]),
        ("feedback.db", ["journal", "verify"]),
    ],
)
def test_a_file_that_must_not_be_read_is_named(project: Path, name: str, words: list[str]) -> None:
    (project / "feedback.db").touch()
    (project / name).chmod(0)
    assert_told(command(*words, cwd=project), Path(name).name, "Give user")


def test_a_full_disk_is_told_with_the_file(project: Path) -> None:
    edit_recipe(project, split={"seed": 7})
    done = command("run", cwd=project, begin=partial(with_room_for, 2000))
    assert_told(done, f"{project}/work/", "File too large", "Free some disk space")
    write_table(project / "rows.csv", small_rows(300))
    done = command("audit", "rows.csv", "--label", "diagnosis", cwd=project, begin=partial(with_room_for, 4000))
    assert_told(done, "File too large", "Free some disk space")


def test_a_database_on_a_full_disk_is_told(project: Path) -> None:
    shutil.rmtree(project / "feedback.db", ignore_errors=True)
    done = command("keys", "create", "me", cwd=project, begin=partial(with_room_for, 20_000))
    assert_told(done, "feedback.db", "then run the command again")


def write_to_a_full_disk(_: object, sandbox: Sandbox) -> None:
    Path("/dev/full").write_bytes(b"x" * 100_000)


def test_a_full_disk_in_another_process_is_told() -> None:
    working = each_chunk(write_to_a_full_disk, [[1]] * MIN_FILES_FOR_PROCESSES, are_many=True, what="write")
    with pytest.raises(OSError, match="No space left") as caught, working as results:
        list(results)
    fault = explain_fault(caught.value)
    assert fault is not None
    assert "Free some disk space" in fault.hint


def test_what_is_no_trouble_with_a_file_is_a_bug() -> None:
    bug = ValueError("x")
    bug.__context__ = FileNotFoundError(2, "No such file or directory", "optional.json")
    for error in (bug, ConnectionRefusedError(111, "refused"), OSError("no number")):
        assert explain_fault(error) is None
