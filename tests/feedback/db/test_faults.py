"""Tables dropped, files of the spool spoiled and removed, bugs in the threads: said, survived, nothing lost."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import delete, text

from medloop.errors import UserError
from medloop.feedback import FeedbackAway, open_feedback
from medloop.feedback.db import database, tables
from medloop.feedback.inputs import Inputs
from medloop.feedback.operations import prediction_operation
from medloop.feedback.outage import background_jobs
from medloop.feedback.store import Feedback
from medloop.settings import FeedbackSettings
from tests.feedback.answers import picture, signer_of, spooled_line, table
from tests.feedback.conftest import Open, tampering
from tests.feedback.outage.test_away import back, locked
from tests.postgres import Postgres
from tests.serve.processes import wait_until

on_sqlite = pytest.mark.parametrize("url", ["sqlite"], indirect=True)
on_postgres = pytest.mark.parametrize("url", ["postgresql"], indirect=True)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "LOCK_TIMEOUT_MS", 100)
    monkeypatch.setattr(background_jobs, "INTERVAL_S", 0.05)


def change(feedback: Feedback, statement: str) -> None:
    with tampering(feedback) as connection:
        connection.execute(text(statement))


@pytest.mark.parametrize("name", ["predictions", "journal", "journal_head"])
def test_a_table_that_is_missing_sends_answers_to_the_spool(feedback: Feedback, name: str) -> None:
    answers = [picture(None) for _ in range(3)]
    feedback.record(answers[:1])
    change(feedback, f"ALTER TABLE {name} RENAME TO gone")
    feedback.record(answers[1:2])
    assert feedback.trouble() == "a table of the database is missing or was changed"
    feedback.record(answers[2:])
    change(feedback, f"ALTER TABLE gone RENAME TO {name}")
    back(feedback)
    assert feedback.trouble() is None
    assert [entry.ref for entry in feedback.journal.entries()] == [one.prediction.id for one in answers]
    assert feedback.journal.verify() == []


def test_keys_known_last_open_the_service_while_their_table_is_missing(feedback: Feedback) -> None:
    _, secret = feedback.keys.create("Ann", "reader")
    assert feedback.keys.find(secret) is not None
    change(feedback, "ALTER TABLE keys RENAME TO gone")
    time.sleep(1)
    assert feedback.keys.find(secret) is not None
    with pytest.raises(FeedbackAway, match="a table of the database is missing"):
        feedback.keys.create("Bob", "reader")
    change(feedback, "ALTER TABLE gone RENAME TO keys")


@on_postgres
def test_a_server_whose_tables_were_dropped_gets_no_new_ones(
    feedback: Feedback, root: Path, url: str, postgres: Postgres
) -> None:
    feedback.record([picture(None)])
    feedback.close()
    postgres.empty_database()
    for migrate in (False, True):
        with pytest.raises(UserError, match=r"has no tables, but feedback\.head \(entry 1\)") as refused:
            open_feedback(FeedbackSettings(url=url), root=root, migrate=migrate)
        assert "Restore it from a backup" in refused.value.hint
    (root / "feedback.head").rename(root / "old.head")
    anew = open_feedback(FeedbackSettings(url=url), root=root, migrate=True)
    anew.record([picture(None)])
    assert anew.journal.verify() == []
    anew.close()


@on_sqlite
def test_answers_that_wait_show_that_there_was_a_database(feedback: Feedback, root: Path) -> None:
    answered = picture(None)
    with locked(feedback):
        feedback.record([answered])
        spooled = next((root / "feedback.spool").glob("*.jsonl"))
        line = spooled.read_bytes()
    back(feedback)
    feedback.close()
    spooled.write_bytes(line)
    for name in ("feedback.db", "feedback.head"):
        (root / name).unlink()
    with pytest.raises(UserError, match=r"is missing, but feedback\.spool"):
        open_feedback(FeedbackSettings(), root=root)
    assert not (root / "feedback.db").exists()


def test_the_first_admin_is_not_made_again_where_the_keys_were_removed(feedback: Feedback, opened: Open) -> None:
    feedback.record([picture(None)])
    assert feedback.keys.first_admin() is not None
    with tampering(feedback) as connection:
        connection.execute(delete(tables.keys))
    for store in (feedback, opened()):
        with pytest.raises(UserError, match="the journal shows that there were some"):
            store.keys.first_admin()
    key, _ = feedback.keys.create("Ann", "admin")
    assert feedback.keys.list() == [key]


def test_the_first_admin_is_not_made_in_a_journal_that_was_emptied(feedback: Feedback, opened: Open) -> None:
    feedback.keys.first_admin()
    with tampering(feedback) as connection:
        for one in (tables.keys, tables.journal, tables.journal_head):
            connection.execute(delete(one))
    with pytest.raises(UserError, match="the journal shows that there were some"):
        opened().keys.first_admin()


def test_the_first_admin_is_made_where_the_journal_has_other_entries(feedback: Feedback) -> None:
    feedback.note("promotion", {"version": "1"}).result(60)
    assert feedback.keys.first_admin() is not None


SPOILED = {
    "not UTF-8": b"\xff\xfe\x00 {}\n",
    "a byte in the middle": b"0" * 64 + b" {\x80}\n",
    "other letters": "é {}\n".encode(),
    "empty": b"\n",
    "carriage returns": b"a\rb\r\n",
    "long": b"x" * 3_000_000 + b"\n",
}


@pytest.mark.parametrize("line", SPOILED.values(), ids=SPOILED)
def test_a_line_that_cannot_be_read_is_set_aside(line: bytes, feedback: Feedback, opened: Open, root: Path) -> None:
    answers = [table({"note": "x" * size}) for size in (10, 2_000_000, 10)]
    signer = signer_of(root)
    operations = [prediction_operation(one, addresses=[""], keep_row=True, signer=signer) for one in answers]
    lines = [spooled_line(one, signer) for one in operations]
    feedback.close()
    left = root / "feedback.spool" / "left.jsonl"
    left.parent.mkdir()
    left.write_bytes(lines[0] + line + b"".join(lines[1:]))
    again = opened()
    assert not left.exists()
    assert (root / "feedback.spool" / "refused.txt").read_bytes() == line
    assert all(again.prediction(one.prediction.id) for one in answers)
    assert again.trouble() is None
    again.record([picture(None)])
    assert again.journal.verify() == []


@on_sqlite
def test_a_line_that_cannot_be_read_does_not_stop_a_running_service(feedback: Feedback, root: Path) -> None:
    answers = [picture(None) for _ in range(4)]
    with locked(feedback):
        for one in answers[:3]:
            feedback.record([one])
            (file,) = (root / "feedback.spool").glob("*.jsonl")
            with file.open("ab") as opened:
                opened.write(b"\xff\n" * 999 + b"\xff")
    back(feedback)
    feedback.record(answers[3:])
    assert [entry.ref for entry in feedback.journal.entries()] == [one.prediction.id for one in answers]
    assert (root / "feedback.spool" / "refused.txt").read_bytes() == b"\xff\n" * 2999
    assert feedback.trouble() is None


@on_sqlite
def test_what_is_no_file_in_the_spool_stops_nobody(feedback: Feedback, root: Path) -> None:
    feedback.record([picture(None)])
    (root / "feedback.spool" / "folder.jsonl").mkdir(parents=True)
    with locked(feedback):
        feedback.record([picture(None)])
    back(feedback)
    assert feedback.journal.head().seq == 2
    assert feedback.trouble() is None


@on_sqlite
def test_a_spool_that_is_removed_is_written_again(feedback: Feedback, root: Path) -> None:
    answers = [picture(None) for _ in range(3)]
    with locked(feedback):
        feedback.record(answers[:2])
        (spooled,) = (root / "feedback.spool").glob("*.jsonl")
        spooled.unlink()
        feedback.record(answers[2:])
        (again,) = (root / "feedback.spool").glob("*.jsonl")
        assert again.read_bytes().count(b"\n") == 3
    back(feedback)
    assert [entry.ref for entry in feedback.journal.entries()] == [one.prediction.id for one in answers]


@on_sqlite
def test_a_bug_in_a_background_job_is_reported_until_it_is_gone(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = threading.Event()
    broken.set()

    def fail(_: Inputs) -> None:
        if broken.is_set():
            raise RuntimeError("a bug")

    monkeypatch.setattr(Inputs, "sync", fail)
    feedback = opened()
    wait_until(lambda: feedback.trouble() is not None)
    assert feedback.trouble() == "the storage of inputs fails (RuntimeError)"
    with locked(feedback):
        feedback.record([picture(None)])
    back(feedback)
    broken.clear()
    wait_until(lambda: feedback.trouble() is None)


@on_sqlite
def test_a_head_that_cannot_be_written_is_told(feedback: Feedback, root: Path) -> None:
    feedback.record([picture(None)])
    head = root / "feedback.head"
    head.unlink()
    head.mkdir()
    feedback.record([picture(None)])
    assert "head cannot be written" in str(feedback.trouble())
    head.rmdir()
    wait_until(lambda: feedback.trouble() is None)
    assert feedback.journal.verify() == []


@on_sqlite
def test_a_spool_that_takes_nothing_is_told(feedback: Feedback, root: Path) -> None:
    feedback.record([picture(None)])
    blocked = root / "feedback.spool"
    with locked(feedback):
        blocked.write_bytes(b"")
        for _ in range(2):
            with pytest.raises(FeedbackAway, match="the spool is full") as refused:
                feedback.record([picture(None)])
            assert refused.value.retry_after > 0
        assert "the spool accepts no more predictions" in str(feedback.trouble())
        blocked.unlink()
        feedback.record([picture(None)])
        assert feedback.trouble() is None
    back(feedback)
    assert feedback.journal.head().seq == 2


def test_a_folder_that_cannot_be_used_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "blocked").write_bytes(b"")
    with pytest.raises(FeedbackAway, match="a file of the database cannot be used") as refused:
        open_feedback(FeedbackSettings(url="sqlite:///blocked/feedback.db"), root=tmp_path)
    assert str(tmp_path) not in str(refused.value)
