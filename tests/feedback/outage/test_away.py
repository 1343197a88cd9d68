"""The database away: answers and corrections go on, within a limit, and arrive in order when it is back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from medloop.feedback import FeedbackAway, keys, open_feedback
from medloop.feedback.db import database
from medloop.feedback.outage import background_jobs
from medloop.feedback.store import Feedback
from medloop.settings import FeedbackSettings
from tests.feedback.answers import kept_png, picture, table
from tests.feedback.conftest import Open, tampering
from tests.postgres import Postgres

Away = Callable[[Feedback], Any]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in earnest, only sooner."""
    monkeypatch.setattr(database, "LOCK_TIMEOUT_MS", 100)
    monkeypatch.setattr(background_jobs, "INTERVAL_S", 0.05)


@contextmanager
def locked(feedback: Feedback) -> Iterator[None]:
    """Somebody else has begun to write, and does not end."""
    with tampering(feedback) as other:
        other.exec_driver_sql("BEGIN IMMEDIATE")
        yield


@contextmanager
def read_only(feedback: Feedback) -> Iterator[None]:
    """SQLite takes nothing, as on a read-only disk."""
    with setting(feedback, "query_only=ON", "query_only=OFF"):
        yield


@contextmanager
def setting(feedback: Feedback, pragma: str, back: str) -> Iterator[None]:
    """Every connection is set so for a while."""
    now = [pragma]

    def change(connection: Any, *_: Any) -> None:
        connection.execute(f"PRAGMA {now[0]}").close()

    event.listen(feedback._transactions.database.engine, "checkout", change)
    try:
        yield
    finally:
        now[0] = back


@pytest.fixture(params=["locked", "read only", "stopped", "killed"])
def away(request: pytest.FixtureRequest) -> Away:
    """Takes the database away for a while."""
    ways: dict[str, Away] = {"locked": locked, "read only": read_only}
    if request.param in ways:
        return ways[request.param]
    server: Postgres = request.getfixturevalue("postgres")

    @contextmanager
    def stopped(_: Feedback) -> Iterator[None]:
        server.stop("fast" if request.param == "stopped" else "immediate")
        try:
            yield
        finally:
            server.start()

    return stopped


@pytest.fixture
def url(request: pytest.FixtureRequest, away: Away, root: Path) -> str:
    if away in (locked, read_only):
        return f"sqlite:///{root}/feedback.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.empty_database()


def back(feedback: Feedback) -> None:
    """Wait until all is in the database."""
    until = time.monotonic() + 60
    while feedback.status().away and time.monotonic() < until:
        time.sleep(0.02)
    assert not feedback.status().away


def test_nothing_is_lost_and_all_arrives_in_order(feedback: Feedback, away: Away, root: Path) -> None:
    before, after = [picture(number) for number in range(2)], [picture(number) for number in range(2)]
    during = [picture(1), table({"age": 61}), picture(None)]
    feedback.record(before)
    with away(feedback):
        for one in during:
            feedback.record([one])
        correction = feedback.correct(during[0].prediction.id, "ring", "a ring", "Ann", idempotency="c1")
        again = feedback.correct(during[0].prediction.id, "ring", "a ring", "Ann", idempotency="c1")
        assert correction.id == again.id
        assert correction.state == "pending"
        status = feedback.status()
        assert status.away
        assert status.spooled_bytes > 0
        # What passes by itself is no reason to send nobody here; a disk that takes nothing is.
        assert feedback.trouble() == ("the database file cannot be written" if away is read_only else None)
        with pytest.raises(FeedbackAway):
            feedback.review(correction.id, "accepted", "Bob")
    back(feedback)
    feedback.record(after)
    ids = [one.prediction.id for one in (*before, *during)]
    assert [entry.ref for entry in feedback.journal.entries()] == [
        *ids,
        correction.id,
        *(p.prediction.id for p in after),
    ]
    assert [one.id for one in feedback.corrections()] == [correction.id]
    assert kept_png(feedback, during[0].prediction.id) == during[0].input_png
    assert feedback.journal.verify() == []
    assert feedback.status().spooled_bytes == 0
    assert list((root / "feedback.spool").glob("*")) == []


def test_what_a_killed_process_spooled_arrives_with_the_next(
    feedback: Feedback, away: Away, opened: Open, root: Path
) -> None:
    answers = [picture(None) for _ in range(3)]
    with away(feedback):
        feedback.record(answers)
        (file,) = (root / "feedback.spool").glob("*.jsonl")
        lines = file.read_bytes()
    back(feedback)
    feedback.close()
    # As a killed process leaves it: all is in the database already, and the last line is half written.
    file.write_bytes(lines + lines[:100])
    again = opened()
    assert not file.exists()
    assert [entry.ref for entry in again.journal.entries()] == [one.prediction.id for one in answers]
    assert again.journal.verify() == []


def test_the_spool_has_an_end(opened: Open, away: Away) -> None:
    feedback = opened(spool_mib=0.003)
    with away(feedback):
        feedback.record([picture(None)])
        with pytest.raises(FeedbackAway, match="the spool is full") as refused:
            feedback.record([picture(None) for _ in range(5)])
        assert refused.value.http_status == 503
    back(feedback)
    assert feedback.journal.head().seq == 1


def test_a_full_disk_sends_answers_to_the_spool(tmp_path: Path) -> None:
    feedback = open_feedback(FeedbackSettings(), root=tmp_path)
    try:
        answered = table({"note": "x" * 200_000})
        with setting(feedback, "max_page_count=1", "max_page_count=1000000"):
            feedback.record([answered])
            assert feedback.status().away
        back(feedback)
        assert feedback.prediction(answered.prediction.id) is not None
        assert feedback.journal.verify() == []
    finally:
        feedback.close()


def test_callers_do_not_wait_for_the_database_once_it_is_known_to_be_away(feedback: Feedback, away: Away) -> None:
    with away(feedback):
        feedback.record([picture(None)])
        began = time.monotonic()
        threads = [threading.Thread(target=feedback.record, args=([picture(None)],)) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert time.monotonic() - began < 40
    back(feedback)
    assert feedback.journal.head().seq == 21


def test_a_correction_that_proves_wrong_later_is_set_aside(feedback: Feedback, away: Away, root: Path) -> None:
    answered = picture(None)
    with away(feedback):
        feedback.record([answered])
        feedback.correct("0" * 32, "ring", "of nothing", "Ann")
        feedback.correct(answered.prediction.id, "no such class", "of nothing", "Ann")
        good = feedback.correct(answered.prediction.id, "ring", "a ring", "Ann")
    back(feedback)
    assert [one.id for one in feedback.corrections()] == [good.id]
    assert (root / "feedback.spool" / "refused.txt").read_text("utf-8").count("\n") == 2
    assert [entry.kind for entry in feedback.journal.entries()] == ["prediction", "correction"]


def test_a_spooled_line_that_somebody_wrote_is_not_stored(feedback: Feedback, away: Away, root: Path) -> None:
    answered = picture(None)
    with away(feedback):
        feedback.record([answered])
        (file,) = (root / "feedback.spool").glob("*.jsonl")
        line = file.read_text("utf-8")
    back(feedback)
    feedback.close()
    file.write_text(line.replace(answered.prediction.id, "e" * 32), encoding="utf-8")
    with_forged = open_feedback(feedback.settings, root=root)
    try:
        assert with_forged.prediction("e" * 32) is None
        assert with_forged.journal.verify() == []
    finally:
        with_forged.close()


def test_keys_known_last_open_the_service_while_the_database_is_away(
    feedback: Feedback, away: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, secret = feedback.keys.create("Ann", "reader")
    feedback.keys.find(secret)
    with away(feedback):
        time.sleep(1)
        began = time.monotonic()
        key = feedback.keys.find(secret)
        assert time.monotonic() - began < 4
        assert key is not None
        monkeypatch.setattr(keys, "STALE_S", 0.5)
        if away not in (locked, read_only):
            with pytest.raises(FeedbackAway):
                feedback.keys.find(secret)
        with pytest.raises(FeedbackAway):
            feedback.keys.create("Bob", "reader")


def test_a_server_that_is_away_at_the_start_is_named_without_its_password(root: Path) -> None:
    url = "postgresql://medloop:" + "hospital" + "@127.0.0.1:1/medloop"
    with pytest.raises(FeedbackAway) as refused:
        open_feedback(FeedbackSettings(url=url), root=root)
    assert "hospital" not in str(refused.value)
    assert refused.value.retry_after > 0
