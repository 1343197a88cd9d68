"""Backups of a PostgreSQL database go through its own programs, while others write to it."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from medloop.feedback import open_feedback
from medloop.settings import FeedbackSettings
from tests.feedback.answers import picture
from tests.postgres import Postgres, running_postgres
from tests.steps.stored_project import answer, done, killed, kinds, make_stored

THREE = ["prediction", "prediction", "prediction"]


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture
def url(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty database, which the settings name."""
    address = postgres.empty_database()
    monkeypatch.setenv("MEDLOOP_FEEDBACK__URL", address)
    return address


@pytest.fixture
def stored(tmp_path: Path, golden: Path, url: str) -> Path:
    """A project with three answers in the server's database."""
    folder = make_stored(tmp_path / "stored", golden)
    for name in ("feedback.key", "feedback.head"):
        (folder / name).unlink()
    answer(folder, 1, 2, 3, url=url)
    return folder


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    (tmp_path / "fresh").mkdir()
    return tmp_path / "fresh"


def test_a_database_is_dumped_and_brought_back_and_what_was_there_is_kept(
    postgres: Postgres, url: str, stored: Path, fresh: Path, tmp_path: Path
) -> None:
    place = tmp_path / "backup"
    done("backup", place, cwd=stored)
    assert (place / "feedback" / "feedback.dump").read_bytes().startswith(b"PGDMP")
    (later,) = answer(stored, 7, url=url)
    assert "already has" in done("restore", place, cwd=fresh, code=2).err
    said = done("restore", place, "--replace", cwd=fresh).out
    assert kinds(fresh, url=url) == [*THREE, "restore"]
    with closing(open_feedback(FeedbackSettings(url=url), root=fresh)) as feedback:
        assert feedback.prediction(later) is None
        assert "in use" in done("restore", place, "--replace", cwd=fresh, code=2).err
    done("journal", "verify", cwd=fresh)
    schema = said.partition("schema ")[2].split(";")[0]
    assert schema.startswith("medloop_before_restore_")
    # Division by zero where the later answer is not kept.
    postgres.sql(f"SELECT 1 / count(*) FROM \"{schema}\".predictions WHERE id = '{later}'")  # noqa: S608 - our names


def test_a_backup_of_a_database_that_is_written_to_is_of_one_moment(
    url: str, stored: Path, fresh: Path, tmp_path: Path
) -> None:
    with closing(open_feedback(FeedbackSettings(url=url), root=stored)) as feedback:
        ended, written = threading.Event(), []

        def write() -> None:
            while not ended.is_set():
                feedback.record([picture(4)])
                written.append(1)

        thread = threading.Thread(target=write)
        thread.start()
        try:
            for number in range(3):
                done("backup", tmp_path / f"backup{number}", cwd=stored)
        finally:
            ended.set()
            thread.join()
    assert written
    done("restore", tmp_path / "backup2", "--replace", cwd=fresh)
    done("journal", "verify", cwd=fresh)
    assert 3 < len(kinds(fresh, url=url)) <= 4 + len(written)


def test_a_restore_that_was_killed_is_finished_by_the_same_command(
    url: str, stored: Path, fresh: Path, tmp_path: Path
) -> None:
    place, renames = tmp_path / "backup", 0
    done("backup", place, cwd=stored)
    while killed("restore", place, "--replace", cwd=fresh, renames=renames):
        if (fresh / ".restore.json").exists():
            done("restore", place, "--replace", cwd=fresh)
            assert kinds(fresh, url=url) == [*THREE, "restore"]
            done("journal", "verify", cwd=fresh)
        renames += 3
        shutil.rmtree(fresh)
        fresh.mkdir()
    assert renames > 10


def test_without_its_programs_it_is_said_what_to_install(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    said = done("backup", tmp_path / "backup", cwd=stored, code=2).err
    assert "pg_dump is not installed" in said
    assert "postgresql-client" in said
    assert not (tmp_path / "backup").exists()


def test_a_backup_of_another_kind_of_database_is_refused(
    stored: Path, fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done("backup", tmp_path / "backup", cwd=stored)
    monkeypatch.delenv("MEDLOOP_FEEDBACK__URL")
    said = done("restore", tmp_path / "backup", cwd=fresh, code=2).err
    assert "The backup is of a postgresql database" in said
    assert list(fresh.iterdir()) == []


def test_a_password_is_not_on_the_command_line(
    postgres: Postgres, stored: Path, fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = "postgresql://postgres:hidden-word@/postgres"  # pragma: allowlist secret
    monkeypatch.setenv("MEDLOOP_FEEDBACK__URL", f"{address}?host={postgres.folder}")
    for name in ("pg_dump", "pg_restore"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/{name}.words\nexec {shutil.which(name)} "$@"\n', "utf-8")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    done("backup", tmp_path / "backup", cwd=stored)
    done("restore", tmp_path / "backup", "--replace", cwd=fresh)
    words = [path.read_text("utf-8") for path in tmp_path.glob("*.words")]
    assert len(words) == 2
    assert "hidden-word" not in "".join(words)
