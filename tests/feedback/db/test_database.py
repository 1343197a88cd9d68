"""Where the database may be, and how it gets its tables."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import select, text

from medloop.errors import UserError
from medloop.feedback import FeedbackAway, open_feedback
from medloop.feedback.db.database import Database, database_url
from medloop.feedback.db.migrate import NEWEST, SCRIPTS, create_tables, run_migrations, schema_version
from medloop.feedback.db.tables import journal_head, metadata
from medloop.feedback.store import Feedback
from medloop.settings import FeedbackSettings, load_settings
from tests.feedback.answers import picture
from tests.feedback.conftest import tampering
from tests.postgres import Postgres


def test_the_migrations_make_the_tables_that_the_code_knows(feedback: Feedback) -> None:
    with tampering(feedback) as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    assert ScriptDirectory(str(SCRIPTS)).get_current_head() == NEWEST


def test_a_fresh_file_is_as_the_migrations_make_it(tmp_path: Path) -> None:
    made = []
    for name, make in {"at once": create_tables, "by steps": run_migrations}.items():
        database = Database(database_url(FeedbackSettings(url=f"sqlite:///{name}.db"), tmp_path))
        database.make_file()
        with database.engine.begin() as connection:
            make(connection)
            statements = connection.execute(text("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")).scalars()
            # Constraints may stand in another order, and a condition may name its table.
            bare = [sql.replace("predictions.", "").replace('"', "") for sql in statements]
            found = sorted(sorted(re.findall(r"\w[\w ]*\b", sql)) for sql in bare)
            head = connection.execute(select(journal_head)).all()
            form = schema_version(connection)
        database.close()
        made.append((found, head, form))
    assert made[0] == made[1]


def test_a_fresh_file_gets_its_tables_by_itself(tmp_path: Path) -> None:
    feedback = open_feedback(FeedbackSettings(url="sqlite:///data/feedback.db"), root=tmp_path)
    feedback.record([picture(None)])
    feedback.close()
    assert (tmp_path / "data" / "feedback.db").is_file()
    assert (tmp_path / "data" / "feedback.key").is_file()


def test_a_fresh_server_waits_for_the_command(postgres: Postgres, tmp_path: Path) -> None:
    settings = FeedbackSettings(url=postgres.empty_database())
    with pytest.raises(UserError, match="medloop db upgrade"):
        open_feedback(settings, root=tmp_path)
    open_feedback(settings, root=tmp_path, migrate=True).close()
    open_feedback(settings, root=tmp_path).close()


@pytest.mark.parametrize(("form", "said"), [("0000", "run `medloop db upgrade`"), ("9999", "newer medloop")])
def test_a_database_of_another_form_is_left_alone(form: str, said: str, feedback: Feedback, root: Path) -> None:
    with tampering(feedback) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :form"), {"form": form})
    with pytest.raises(UserError) as refused:
        open_feedback(feedback.settings, root=root)
    assert said in str(refused.value)


def test_every_commit_is_on_the_disk(tmp_path: Path) -> None:
    feedback = open_feedback(FeedbackSettings(), root=tmp_path)
    database = Database(database_url(feedback.settings, tmp_path))
    with database.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    database.close()
    feedback.close()
    with sqlite3.connect(tmp_path / "feedback.db") as plain:
        assert plain.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    plain.close()


def test_a_file_that_is_replaced_again_and_again_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    feedback = open_feedback(FeedbackSettings(), root=tmp_path)
    places = iter(range(1_000_000))
    with monkeypatch.context() as patched:
        patched.setattr("medloop.feedback.db.database._file_id", lambda _: (0, next(places)))
        with pytest.raises(FeedbackAway):
            feedback.prediction("a" * 32)
    feedback.close()


PLATFORMS = ["AWS_LAMBDA_FUNCTION_NAME", "ECS_CONTAINER_METADATA_URI", "ECS_CONTAINER_METADATA_URI_V4", "K_SERVICE"]


@pytest.mark.parametrize("platform", [*PLATFORMS, None])
def test_a_file_is_refused_where_no_disk_is_kept(
    platform: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if platform is not None:
        monkeypatch.setenv(platform, "x")
    with pytest.raises(UserError, match="does not keep its disk") as refused:
        open_feedback(FeedbackSettings(stateless=True if platform is None else None), root=tmp_path)
    assert "would be lost" in refused.value.problem
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_file_on_a_volume_is_taken_where_the_settings_say_so(
    platform: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(platform, "x")
    (tmp_path / "config.yaml").write_text("feedback: {stateless: false}\n", encoding="utf-8")
    feedback = open_feedback(load_settings(tmp_path).feedback, root=tmp_path)
    feedback.record([picture(None)])
    feedback.close()
    assert {"feedback.db", "feedback.key", "feedback.head"} <= {path.name for path in tmp_path.iterdir()}


def test_without_a_disk_the_key_must_come_from_the_settings(postgres: Postgres, tmp_path: Path) -> None:
    url = postgres.empty_database()
    with pytest.raises(UserError, match="MEDLOOP_FEEDBACK__JOURNAL_KEY"):
        open_feedback(FeedbackSettings(url=url, stateless=True), root=tmp_path, migrate=True)
    settings = FeedbackSettings(url=url, stateless=True, journal_key="k" * 64)
    feedback = open_feedback(settings, root=tmp_path)
    feedback.record([picture(None)])
    assert feedback.journal.verify() == []
    feedback.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url", ["", "feedback.db", "mysql://u@h/d", "sqlite://", "sqlite:///:memory:", "http://h", "postgresql://u@h:x/d"]
)
def test_another_address_is_refused_without_being_shown(url: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"feedback\.url ") as refused:
        open_feedback(FeedbackSettings(url=url), root=tmp_path)
    assert "u@h" not in str(refused.value)
