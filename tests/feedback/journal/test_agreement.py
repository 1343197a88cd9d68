"""What the journal covers besides its entries: keys, kept values and their end, the tables themselves."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete, text, update

from medloop.feedback import open_feedback
from medloop.feedback.db import tables
from medloop.feedback.store import Feedback
from tests.feedback.answers import picture, signer_of, table
from tests.feedback.conftest import Open, sqlite_in, tampering
from tests.loop_project import medloop

on_sqlite = pytest.mark.parametrize("url", ["sqlite"], indirect=True)
on_postgres = pytest.mark.parametrize("url", ["postgresql"], indirect=True)


def run(feedback: Feedback, *statements: str) -> None:
    with tampering(feedback) as connection:
        for statement in statements:
            connection.execute(text(statement))


def days_ago(days: int) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="microseconds")


def test_the_journal_tells_who_a_key_is_for(feedback: Feedback) -> None:
    key, _ = feedback.keys.create("Ann", "reviewer", days=1, by="Bob")
    revoked = feedback.keys.revoke(key.id, by="Bob")
    made, ended = (json.loads(entry.content) for entry in feedback.journal.entries())
    assert (made["name"], made["created"], made["role"]) == ("Ann", key.created, "reviewer")
    assert ended["at"] == revoked.revoked
    assert feedback.journal.verify() == []
    run(feedback, "UPDATE keys SET revoked = '2001'")
    assert feedback.journal.verify() == [
        f"key {key.id} does not agree with the journal: added or changed by hand, or while feedback.journal was off"
    ]


def test_values_that_expire_are_in_the_journal(opened: Open) -> None:
    feedback = opened(keep_days=0)
    old, kept = table({"age": 61}), table({"age": 62})
    feedback.record([old])
    before = datetime.now(UTC).isoformat(timespec="microseconds")
    assert feedback.expire() == 1
    assert feedback.expire() == 0
    (entry,) = feedback.journal.entries(kind="expiry")
    assert json.loads(entry.content)["rows"] == 1
    assert json.loads(entry.content)["before"] >= before
    feedback.record([kept])
    assert feedback.journal.verify() == []
    run(feedback, "UPDATE predictions SET row = NULL")
    assert feedback.journal.verify() == [
        f"prediction {kept.prediction.id} of entry 3 has lost its values before they expired"
    ]


def test_values_that_were_never_kept_are_not_missed(opened: Open) -> None:
    feedback = opened(keep_inputs=False)
    feedback.record([table({"age": 61}), picture(None)])
    assert feedback.journal.verify() == []


def test_pictures_that_expire_are_in_the_journal(opened: Open) -> None:
    feedback = opened(keep_days=0)
    feedback.record([picture(1), picture(2)])
    assert feedback.expire() == 2
    (entry,) = feedback.journal.entries(kind="expiry")
    assert json.loads(entry.content)["pictures"] == 2


PLANTED = {
    "trigger": "CREATE TRIGGER planted AFTER INSERT ON predictions BEGIN UPDATE predictions SET row = NULL; END",
    "view": "CREATE VIEW planted AS SELECT * FROM predictions",
    "table": "CREATE TABLE planted (id TEXT)",
}


@on_sqlite
@pytest.mark.parametrize("kind", PLANTED)
def test_what_was_planted_in_a_file_is_named(kind: str, feedback: Feedback) -> None:
    run(feedback, PLANTED[kind])
    assert feedback.journal.verify() == [f"the database has {kind} planted, which medloop did not create"]


@on_postgres
def test_what_was_planted_in_a_server_is_named(feedback: Feedback) -> None:
    assert feedback.journal.verify() == []
    run(
        feedback,
        "CREATE FUNCTION quiet() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
        "CREATE TRIGGER planted BEFORE INSERT ON predictions FOR EACH ROW EXECUTE FUNCTION quiet()",
        "CREATE RULE hidden AS ON DELETE TO journal DO INSTEAD NOTHING",
        "CREATE POLICY veiled ON keys USING (false)",
        "CREATE VIEW seen AS SELECT * FROM predictions",
        "CREATE TABLE of_another_program (id TEXT)",
    )
    assert feedback.journal.verify() == [
        f"the database has {one}, which medloop did not create"
        for one in ("policy veiled", "rule hidden", "trigger planted", "view seen")
    ]


CHANGED = {
    "ALTER TABLE predictions ADD COLUMN note TEXT": "column predictions.note is unexpected",
    "ALTER TABLE keys RENAME COLUMN revoked TO hidden": "column keys.revoked is missing",
    "DROP INDEX predictions_at": "index predictions_at of predictions is missing",
    "CREATE INDEX extra ON keys (name)": "index extra of keys is unexpected",
}


@pytest.mark.parametrize(("statement", "said"), CHANGED.items(), ids=CHANGED.values())
def test_tables_that_were_changed_are_named(statement: str, said: str, feedback: Feedback) -> None:
    run(feedback, statement)
    if "keys" in statement and "RENAME" in statement:
        run(feedback, "ALTER TABLE keys ADD COLUMN revoked INTEGER")
        said = "column keys.hidden is unexpected"
    assert any(said in problem for problem in feedback.journal.verify())


def make_older(feedback: Feedback, root: Path) -> None:
    """Bring database and journal back to the form before this one, which covered less."""
    from medloop.feedback.journal.chain import FIRST, Event, seal

    signer = signer_of(root)
    with tampering(feedback) as connection:
        rows = connection.execute(tables.journal.select().order_by(tables.journal.c.seq)).all()
        connection.execute(delete(tables.journal))
        previous = FIRST
        for row in rows:
            content = json.loads(row.content)
            for name in ("name", "created", "kept", "at"):
                content.pop(name, None)
            event = Event(kind=row.kind, ref=row.ref, at=row.at, content=content)
            entry = seal(event, seq=row.seq, previous=previous, signer=signer)
            previous = entry.hash
            connection.execute(tables.journal.insert().values(**vars(entry)))
        signature = signer.head(len(rows), previous)
        connection.execute(update(tables.journal_head).values(hash=previous, signature=signature))
        connection.execute(text("UPDATE alembic_version SET version_num = '0002'"))
    (root / "feedback.head").write_text(f"{len(rows):>20} {previous} {signature}\n", "utf-8")


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A project that an older medloop left: a row that has expired, two that are kept, two keys, one revoked."""
    with closing(open_feedback(sqlite_in(tmp_path), root=tmp_path)) as feedback:
        feedback.record([table({"age": 60})])
        run(feedback, "UPDATE predictions SET row = NULL")
        feedback.record([table({"age": 61})])
        feedback.record([table({"age": 62}), picture(None)])
        feedback.keys.create("Ann", "reader")
        feedback.keys.revoke(feedback.keys.create("Bob", "admin")[0].id)
        make_older(feedback, tmp_path)
    return tmp_path


def upgraded(root: Path) -> Feedback:
    assert medloop("db", "upgrade", cwd=root).code == 0
    return open_feedback(sqlite_in(root), root=root)


def test_an_older_journal_is_covered_by_one_entry(older: Path) -> None:
    with closing(upgraded(older)) as feedback:
        assert feedback.journal.verify() == []
        (entry,) = feedback.journal.entries(kind="upgrade")
        assert sorted(one["name"] for one in json.loads(entry.content)["keys"].values()) == ["Ann", "Bob"]
    assert medloop("db", "upgrade", cwd=older).code == 0
    assert medloop("journal", "verify", cwd=older).code == 0


@pytest.mark.parametrize(
    ("statement", "said"),
    {
        "UPDATE keys SET name = 'Eve' WHERE name = 'Ann'": "does not agree with the journal",
        "UPDATE keys SET created = '2001' WHERE name = 'Ann'": "does not agree with the journal",
        "UPDATE keys SET revoked = NULL": "does not agree with the journal",
        "DELETE FROM keys WHERE name = 'Bob'": "is missing from its table",
        "UPDATE predictions SET row = NULL WHERE row LIKE '%61%'": "of entry 2 has lost its values",
        "UPDATE predictions SET row = NULL WHERE row LIKE '%62%'": "of entry 3 has lost its values",
    }.items(),
)
def test_what_an_older_journal_did_not_cover_is_covered_from_the_upgrade_on(
    statement: str, said: str, older: Path
) -> None:
    with closing(upgraded(older)) as feedback:
        run(feedback, statement)
        (problem,) = feedback.journal.verify()
        assert said in problem


def test_a_key_that_was_put_in_is_not_covered_by_the_upgrade(older: Path) -> None:
    with closing(sqlite3.connect(older / "feedback.db")) as connection:
        connection.execute(
            "INSERT INTO keys (id, name, role, digest, created) VALUES ('x', 'Eve', 'admin', ?, '2001')", ["0" * 64]
        )
        connection.commit()
    with closing(upgraded(older)) as feedback:
        assert [problem.partition(":")[0] for problem in feedback.journal.verify()] == [
            "key x does not agree with the journal"
        ]


def test_verify_fails_as_a_command_where_something_is_found(older: Path) -> None:
    with closing(upgraded(older)) as feedback:
        run(feedback, "UPDATE keys SET name = 'Eve' WHERE name = 'Ann'")
    found = medloop("journal", "verify", cwd=older)
    assert found.code == 2
    assert "does not agree with the journal" in found.err
