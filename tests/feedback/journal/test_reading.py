"""The journal edited, cut, reordered or rebuilt: verify says where."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, delete, insert, select, text, update

from medloop.errors import UserError
from medloop.feedback.db import tables
from medloop.feedback.db.tables import corrections, journal, journal_head, keys, predictions
from medloop.feedback.journal.chain import FIRST, Signer, seal
from medloop.feedback.journal.chain import Event as JournalEvent
from medloop.feedback.store import Feedback
from tests.feedback.answers import picture, table
from tests.feedback.conftest import Open, tampering

STRANGER = Signer(b"another key")
# What is found in the entries has nothing to do with who keeps them.
on_sqlite = pytest.mark.parametrize("url", ["sqlite"], indirect=True)


@pytest.fixture
def filled(feedback: Feedback) -> Feedback:
    """A journal of 12 entries of every kind."""
    answers = [picture(None) for _ in range(7)]
    feedback.record(answers)
    feedback.record([table({"age": 61})])
    feedback.note("start", {"version": "3"}).result(60)
    correction = feedback.correct(answers[0].prediction.id, "ring", "a ring at the left", "Ann")
    feedback.review(correction.id, "accepted", "Bob")
    feedback.keys.create("Ann", "reviewer")
    assert feedback.journal.head().seq == 12
    assert feedback.journal.verify() == []
    return feedback


def tamper(feedback: Feedback, change: Callable[[Connection], Any]) -> list[str]:
    """What verify says after somebody has changed the database."""
    with tampering(feedback) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET session_replication_role = replica"))
        change(connection)
    return feedback.journal.verify()


def rows(connection: Connection) -> list[dict[str, Any]]:
    return [dict(row._mapping) for row in connection.execute(select(journal).order_by(journal.c.seq))]


def put(connection: Connection, entries: list[dict[str, Any]]) -> None:
    connection.execute(delete(journal))
    connection.execute(insert(journal), entries)


def renumbered(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**entry, "seq": number} for number, entry in enumerate(entries, 1)]


def resealed(entries: list[dict[str, Any]], *, start: int, signer: Signer) -> list[dict[str, Any]]:
    """The entries with a new chain from one of them on."""
    sealed, previous = entries[: start - 1], entries[start - 2]["hash"] if start > 1 else FIRST
    for number, one in enumerate(entries[start - 1 :], start):
        event = JournalEvent(kind=one["kind"], ref=one["ref"], at=one["at"], content=json.loads(one["content"]))
        entry = seal(event, seq=number, previous=previous, signer=signer)
        previous = entry.hash
        sealed.append(vars(entry))
    return sealed


def test_an_edited_entry_is_named(filled: Feedback) -> None:
    problems = tamper(filled, lambda c: c.execute(update(journal).where(journal.c.seq == 4).values(content="{}")))
    assert problems == ["entry 4 is edited"]


@on_sqlite
@pytest.mark.parametrize("name", ["at", "kind", "ref", "previous", "hash"])
def test_no_field_of_an_entry_can_be_edited(name: str, filled: Feedback) -> None:
    problems = tamper(filled, lambda c: c.execute(update(journal).where(journal.c.seq == 4).values({name: "f" * 64})))
    assert problems[0] == "entry 4 is edited"


def test_a_hole_is_named(filled: Feedback) -> None:
    problems = tamper(filled, lambda c: c.execute(delete(journal).where(journal.c.seq.in_([4, 5, 6]))))
    assert problems[0] == "entries 4 to 6 are missing: removed"
    assert "3 rows of predictions are not in the journal" in problems[1]
    assert len(problems) == 2


@on_sqlite
def test_a_hole_that_was_closed_is_named(filled: Feedback) -> None:
    def close(connection: Connection) -> None:
        entries = rows(connection)
        put(connection, renumbered([*entries[:3], *entries[5:]]))

    problems = tamper(filled, close)
    assert problems[0].startswith("entries 4 to 10 are not at the position where they were written"[:24])
    assert "reordered, or renumbered" in problems[0]
    assert "entries 11 to 12 are missing at the end: truncated" in problems


@on_sqlite
def test_entries_that_changed_places_are_named(filled: Feedback) -> None:
    def swap(connection: Connection) -> None:
        entries = rows(connection)
        entries[4], entries[6] = entries[6], entries[4]
        put(connection, renumbered(entries))

    problems = tamper(filled, swap)
    assert [problem.partition(":")[0] for problem in problems] == [
        "entry 5 is not at the position where it was written",
        "entry 7 is not at the position where it was written",
    ]


@on_sqlite
def test_an_entry_put_in_between_is_named(filled: Feedback) -> None:
    def slip_in(connection: Connection) -> None:
        entries = rows(connection)
        extra = {**entries[8], "ref": "x" * 32}
        put(connection, renumbered([*entries[:9], extra, *entries[9:]]))

    problems = tamper(filled, slip_in)
    assert "entry 10 is edited" in problems
    assert "entry 13 is not covered by the signed head: added by hand" in problems


@on_sqlite
@pytest.mark.parametrize("start", [1, 6, 12])
def test_a_rebuilt_chain_is_named_from_where_it_was_rebuilt(start: int, filled: Feedback) -> None:
    def rebuild(connection: Connection) -> None:
        entries = rows(connection)
        entries[start - 1]["at"] = "2001-01-01T00:00:00.000000+00:00"
        entries = resealed(entries, start=start, signer=STRANGER)
        put(connection, entries)
        head = {"seq": 12, "hash": entries[-1]["hash"]}
        connection.execute(update(journal_head).values(**head, signature=STRANGER.head(12, head["hash"])))

    problems = tamper(filled, rebuild)
    named = "entry 12 is" if start == 12 else f"entries {start} to 12 are"
    assert problems[0] == f"{named} not signed with the journal's key: rebuilt"
    assert "the head in the database is not signed with the journal's key" in problems[1]


def test_a_cut_at_the_end_is_found(filled: Feedback) -> None:
    problems = tamper(filled, lambda c: c.execute(delete(journal).where(journal.c.seq > 9)))
    assert problems[0] == "entries 10 to 12 are missing at the end: truncated"


def old_head(feedback: Feedback) -> Callable[[Connection], None]:
    """A change that sets everything back to how it is now, signed head and all."""
    head = feedback.journal.head()

    def cut(connection: Connection) -> None:
        connection.execute(delete(journal).where(journal.c.seq > head.seq))
        connection.execute(update(journal_head).values(seq=head.seq, hash=head.hash, signature=head.signature))

    return cut


@on_sqlite
def test_a_cut_with_an_old_head_put_back_is_found_by_the_file(filled: Feedback) -> None:
    cut = old_head(filled)
    filled.note("stop", {"version": "3"}).result(60)
    filled.note("start", {"version": "3"}).result(60)
    assert tamper(filled, cut) == ["entries 13 to 14 are missing at the end: truncated"]


@on_sqlite
def test_a_noted_head_shows_a_cut_that_took_the_file_along(filled: Feedback, root: Path) -> None:
    cut, file = old_head(filled), (root / "feedback.head").read_bytes()
    filled.note("stop", {"version": "3"}).result(60)
    noted = filled.journal.head()
    tamper(filled, cut)
    (root / "feedback.head").write_bytes(file)
    assert filled.journal.verify() == []
    assert filled.journal.verify(noted=noted) == ["entry 13 is missing at the end: truncated"]


def test_a_cut_is_not_signed_over_by_what_comes_after(filled: Feedback, opened: Open) -> None:
    cut = old_head(filled)
    filled.note("stop", {"version": "3"}).result(60)
    tamper(filled, cut)
    filled.note("start", {"version": "3"}).result(60)
    (problem,) = filled.journal.verify()
    assert problem == "entry 13 reports on the journal before it: it ended at entry 13 before, and now at 12"
    again = opened()
    again.record([picture(None)])
    assert again.journal.verify() == [problem]


def test_a_head_that_somebody_wrote_is_not_signed_over(filled: Feedback) -> None:
    def cut(connection: Connection) -> None:
        connection.execute(delete(journal).where(journal.c.seq > 9))
        entry = connection.execute(select(journal.c.hash).where(journal.c.seq == 9)).scalar_one()
        connection.execute(update(journal_head).values(seq=9, hash=entry, signature="0" * 64))

    problems = tamper(filled, cut)
    assert any(problem.startswith("the head in the database is not signed") for problem in problems)
    filled.record([picture(None)])
    assert any("entry 10 reports on the journal before it: its head was not" in one for one in filled.journal.verify())


HEADS = {
    "removed": delete(journal_head),
    "set back": update(journal_head).values(seq=3),
    "set on": update(journal_head).values(seq=300),
}


@pytest.mark.parametrize("change", HEADS.values(), ids=HEADS)
def test_a_head_that_was_changed_stops_nobody_and_is_told(change: Any, filled: Feedback) -> None:
    assert any("the head in the database is not signed" in one for one in tamper(filled, lambda c: c.execute(change)))
    answered = picture(None)
    filled.record([answered])
    filled.record([picture(None)])
    assert filled.prediction(answered.prediction.id) is not None
    assert len([one for one in filled.journal.verify() if "its head was not signed with this key" in one]) == 1


def test_a_cut_end_is_told_by_the_next_entry(filled: Feedback) -> None:
    tamper(filled, lambda c: c.execute(delete(journal).where(journal.c.seq > 9)))
    filled.record([picture(None)])
    problems = filled.journal.verify()
    assert problems[0] == "entries 10 to 12 are missing: removed"
    assert "entry 13 reports on the journal before it: its head named entry 12, but it ended at 9" in problems


@on_sqlite
def test_an_emptied_journal_is_found(filled: Feedback) -> None:
    def empty(connection: Connection) -> None:
        connection.execute(delete(journal))
        connection.execute(update(journal_head).values(seq=0, hash=FIRST, signature=""))

    problems = tamper(filled, empty)
    assert problems[0] == "entries 1 to 12 are missing at the end: truncated"
    assert any("8 rows of predictions are not in the journal" in problem for problem in problems)


TABLES = {
    "an answer edited": (lambda c: c.execute(update(predictions).values(label="clear")), "edited in its table"),
    "an answer's numbers": (lambda c: c.execute(update(predictions).values(answer="{}")), "edited in its table"),
    "a row's values": (
        lambda c: c.execute(update(predictions).where(predictions.c.kind == "table").values(row='{"age":16}')),
        "does not agree with entry 8",
    ),
    "an answer removed": (
        lambda c: c.execute(delete(predictions).where(predictions.c.kind == "table")),
        "of entry 8 is missing from its table",
    ),
    "a correction edited": (
        lambda c: c.execute(update(corrections).values(label="clear")),
        "does not agree with entry 10",
    ),
    "a reason edited": (lambda c: c.execute(update(corrections).values(reason="none")), "does not agree with entry 10"),
    "a correction made earlier": (
        lambda c: c.execute(update(corrections).values(at="2001-01-01T00:00:00.000000+00:00")),
        "does not agree with entry 10",
    ),
    "a review made earlier": (
        lambda c: c.execute(update(tables.reviews).values(at="2001")),
        "does not agree with entry 11",
    ),
    "a state set": (lambda c: c.execute(update(corrections).values(state="rejected")), "accepted in the journal"),
    "a review edited": (lambda c: c.execute(update(tables.reviews).values(who="Eve")), "does not agree with entry 11"),
    "a role raised": (lambda c: c.execute(update(keys).values(role="admin")), "does not agree with the journal"),
    "a key renamed": (lambda c: c.execute(update(keys).values(name="Eve")), "does not agree with the journal"),
    "a key made earlier": (lambda c: c.execute(update(keys).values(created="2001")), "does not agree with the journal"),
    "a key that ends later": (
        lambda c: c.execute(update(keys).values(expires="2101")),
        "does not agree with the journal",
    ),
    "a key revoked": (lambda c: c.execute(update(keys).values(revoked="2026")), "does not agree with the journal"),
    "a key removed": (lambda c: c.execute(delete(keys)), "is missing from its table: removed by hand"),
    "a row's values removed": (
        lambda c: c.execute(update(predictions).where(predictions.c.kind == "table").values(row=None)),
        "of entry 8 has lost its values before they expired",
    ),
    "a key put in": (
        lambda c: c.execute(insert(keys).values(id="x", name="Eve", role="admin", digest="0" * 64, created="")),
        "key x does not agree with the journal",
    ),
}


@on_sqlite
@pytest.mark.parametrize(("change", "said"), TABLES.values(), ids=TABLES)
def test_the_tables_cannot_be_changed_beside_the_journal(
    change: Callable[[Connection], Any], said: str, filled: Feedback
) -> None:
    problems = tamper(filled, change)
    assert any(said in problem for problem in problems), problems


@on_sqlite
def test_another_key_is_not_taken_for_the_journal_s(filled: Feedback, opened: Open, root: Path) -> None:
    assert opened(journal_key="x" * 64).journal.verify()[0] == (
        "entries 1 to 12 are not signed with the journal's key: rebuilt"
    )
    (root / "feedback.key").unlink()
    with pytest.raises(UserError, match=r"its key file feedback\.key is missing"):
        opened()


@on_sqlite
def test_the_key_is_closed_to_others(filled: Feedback, root: Path) -> None:
    assert (root / "feedback.key").stat().st_mode & 0o777 == 0o600


def test_entries_are_listed(filled: Feedback) -> None:
    assert [entry.seq for entry in filled.journal.entries(after=3, limit=2)] == [4, 5]
    assert [entry.kind for entry in filled.journal.entries(kind="review")] == ["review"]
    (review,) = filled.journal.entries(kind="review")
    assert filled.journal.entry(review.ref) == review
    assert filled.journal.entry("nothing") is None
