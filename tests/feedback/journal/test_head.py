"""The journal's head: a file that is missing is an alarm, and a copy elsewhere shows what was put back as a whole."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from medloop.errors import UserError
from medloop.feedback import open_feedback
from medloop.feedback.journal.head import HeadCopy
from medloop.feedback.outage import background_jobs
from medloop.feedback.store import Feedback
from medloop.settings import FeedbackSettings
from tests.feedback.answers import picture
from tests.feedback.conftest import Open
from tests.serve.processes import wait_until

PLACE = "s3://scans/heads/feedback.head"
DATABASE = ("feedback.db", "feedback.db-wal", "feedback.db-shm", "feedback.head")
on_sqlite = pytest.mark.parametrize("url", ["sqlite"], indirect=True)
on_postgres = pytest.mark.parametrize("url", ["postgresql"], indirect=True)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background_jobs, "INTERVAL_S", 0.05)


@on_sqlite
def test_a_head_file_that_is_missing_is_an_alarm(feedback: Feedback, opened: Open, root: Path) -> None:
    feedback.record([picture(None)])
    feedback.close()
    (root / "feedback.head").unlink()
    again = opened()
    assert again.journal.verify() == [
        "the head's file feedback.head is missing or unreadable: without it, a truncation may go unnoticed"
    ]
    again.record([picture(None)])
    alarm = "entry 2 reports on the journal before it: the file with its head was missing or unreadable"
    assert again.journal.verify() == [alarm]
    again.close()
    last = opened()
    last.record([picture(None)])
    assert last.journal.verify() == [alarm]


@pytest.mark.parametrize("content", ["", "x", f"1 {'0' * 64} é", f"1 {'0' * 64} {'0' * 64}"])
@on_sqlite
def test_a_head_file_that_somebody_wrote_is_an_alarm(
    content: str, feedback: Feedback, opened: Open, root: Path
) -> None:
    feedback.record([picture(None), picture(None)])
    feedback.close()
    (root / "feedback.head").write_text(content, "utf-8")
    again = opened()
    again.record([picture(None)])
    (problem,) = again.journal.verify()
    assert problem.startswith("entry 3 reports on the journal before it: the ")


@on_postgres
def test_another_machine_beside_a_server_has_no_head_yet(feedback: Feedback, opened: Open, root: Path) -> None:
    feedback.record([picture(None)])
    feedback.close()
    (root / "feedback.head").unlink()
    again = opened()
    again.record([picture(None)])
    assert again.journal.verify() == []


@pytest.fixture(params=["file", "object store"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A place for the copy; to be named before `opened`, whose stores write there until they are closed."""
    if request.param == "file":
        return str(tmp_path_factory.mktemp("elsewhere") / "feedback.head")
    request.getfixturevalue("bucket")
    return PLACE


def copied(place: str, root: Path) -> int:
    found = HeadCopy(place, root).read()
    return -1 if found is None else found.seq


def test_the_head_is_kept_elsewhere_while_the_service_runs_and_at_its_end(place: str, opened: Open, root: Path) -> None:
    feedback = opened(head=place)
    feedback.record([picture(None)])
    wait_until(lambda: copied(place, root) == 1)
    feedback.record([picture(None)])
    feedback.close()
    assert copied(place, root) == 2
    assert opened(head=place).journal.verify() == []


@on_sqlite
def test_a_database_and_a_head_that_are_put_back_are_found_by_the_copy(
    place: str, opened: Open, root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    yesterday = tmp_path_factory.mktemp("yesterday")
    first = opened(head=place)
    first.record([picture(None)])
    first.close()
    for name in DATABASE:
        if (root / name).exists():
            shutil.copy(root / name, yesterday)
    second = opened(head=place)
    second.record([picture(None), picture(None)])
    second.close()
    for name in DATABASE:
        (root / name).unlink(missing_ok=True)
        if (yesterday / name).exists():
            shutil.copy(yesterday / name, root)
    assert opened().journal.verify() == []
    third = opened(head=place)
    assert "entries 2 to 3 are missing at the end: truncated" in third.journal.verify()
    wait_until(lambda: third.journal.head().seq == 2)
    alarm = "entry 2 reports on the journal before it: a copy of its head names entry 3, which is missing"
    assert alarm in third.journal.verify()
    wait_until(lambda: copied(place, root) == 2)
    third.record([picture(None), picture(None)])
    wait_until(lambda: copied(place, root) == 4)
    third.close()
    assert opened(head=place).journal.verify() == [alarm]


def test_a_place_that_is_away_stops_nobody(
    bucket: Callable[[str, bytes], None], opened: Open, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as away:
        away.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        away.setenv("AWS_MAX_ATTEMPTS", "1")
        feedback = opened(head=PLACE)
        feedback.record([picture(None)])
        assert feedback.trouble() is None
        (problem,) = feedback.journal.verify()
        assert "the copy of the head (feedback.head) could not be read" in problem
    wait_until(lambda: copied(PLACE, root) == 1)
    assert feedback.journal.verify() == []


def test_a_copy_that_somebody_wrote_is_told(place: str, opened: Open, root: Path, tmp_path: Path) -> None:
    first = opened(head=place)
    first.record([picture(None)])
    first.close()
    stranger = open_feedback(FeedbackSettings(journal_key="k" * 64), root=tmp_path / "other")
    stranger.record([picture(None)])
    HeadCopy(place, root).write(stranger.journal.head())
    stranger.close()
    second = opened(head=place)
    assert "the copy of the head is not signed with the journal's key" in second.journal.verify()
    wait_until(lambda: second.journal.head().seq == 2)
    assert any("the copy of its head was not signed with this key" in one for one in second.journal.verify())


def test_another_kind_of_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"feedback\.head"):
        open_feedback(FeedbackSettings(head="ftp://host/head"), root=tmp_path)
