"""The commands around keys, corrections, the journal and their database."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from medloop.feedback import open_feedback
from medloop.settings import FeedbackSettings
from tests.feedback.answers import picture
from tests.loop_project import medloop


@pytest.fixture(autouse=True)
def user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDLOOP_USER", "Bob")


def correct(folder: Path) -> str:
    """A stored answer with a correction; the id of the correction."""
    with closing(open_feedback(FeedbackSettings(), root=folder)) as feedback:
        answered = picture(1)
        feedback.record([answered])
        return feedback.correct(answered.prediction.id, "ring", "a ring", "Ann").id


def test_keys_are_made_listed_and_revoked(tmp_path: Path) -> None:
    made = medloop("keys", "create", "Ann", "--role", "reviewer", "--days", "30", cwd=tmp_path)
    assert made.code == 0
    secret = made.out.strip()
    with closing(open_feedback(FeedbackSettings(), root=tmp_path)) as feedback:
        key = feedback.keys.find(secret)
        assert key is not None
        assert (key.name, key.role) == ("Ann", "reviewer")
    listed = medloop("keys", "list", cwd=tmp_path)
    assert key.id in listed.out
    assert secret not in listed.out
    assert json.loads(medloop("keys", "list", "--json", cwd=tmp_path).out)[0]["name"] == "Ann"
    assert "is revoked" in medloop("keys", "revoke", key.id, cwd=tmp_path).out
    assert json.loads(medloop("keys", "list", "--json", cwd=tmp_path).out)[0]["revoked"]
    assert medloop("keys", "create", "Ann", "--role", "king", cwd=tmp_path).code == 2
    assert medloop("keys", "revoke", "nobody", cwd=tmp_path).code == 2


def test_corrections_are_listed_decided_and_exported(tmp_path: Path) -> None:
    name = correct(tmp_path)
    assert name in medloop("corrections", "list", cwd=tmp_path).out
    assert json.loads(medloop("corrections", "list", "--state", "pending", "--json", cwd=tmp_path).out)[0]["id"] == name
    accepted = medloop("corrections", "accept", name, "--reason", "I see it", cwd=tmp_path)
    assert accepted.out == f"{name}: accepted\n"
    again = medloop("corrections", "reject", name, cwd=tmp_path)
    assert again.code == 2
    assert "already accepted" in again.err
    assert medloop("corrections", "export", "cases.csv", cwd=tmp_path).out == "1 cases; see cases.csv\n"
    assert "ring" in (tmp_path / "cases.csv").read_text("utf-8")


def test_the_journal_is_verified(tmp_path: Path) -> None:
    correct(tmp_path)
    good = medloop("journal", "verify", cwd=tmp_path)
    assert good.code == 0
    noted = good.out.split()[-1]
    assert medloop("journal", "verify", "--noted", noted, cwd=tmp_path).code == 0
    with closing(sqlite3.connect(tmp_path / "feedback.db")) as connection:
        connection.execute("delete from journal where seq = 2")
        connection.commit()
    bad = medloop("journal", "verify", cwd=tmp_path)
    assert bad.code == 2
    assert "entry 2 is missing" in bad.err


def test_a_replay_says_why_it_cannot_be(tmp_path: Path) -> None:
    correct(tmp_path)
    with closing(open_feedback(FeedbackSettings(), root=tmp_path)) as feedback:
        name = feedback.journal.entries()[0].ref
    said = medloop("journal", "replay", name, cwd=tmp_path)
    assert said.code == 2
    assert "The model store does not hold bundle bbbbbbbbbbbb" in said.err


def test_the_database_is_brought_up(tmp_path: Path) -> None:
    assert medloop("keys", "create", "first", cwd=tmp_path).code == 0
    for _ in range(2):
        said = medloop("db", "upgrade", cwd=tmp_path)
        assert said.code == 0
        assert "schema version 0003" in said.out
