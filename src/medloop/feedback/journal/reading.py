"""Reading and verifying the journal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, select

from medloop.errors import UserError
from medloop.feedback.db import tables
from medloop.feedback.db.schema import schema_problems
from medloop.feedback.journal.agreement import Agreement
from medloop.feedback.journal.chain import Entry, stored_head
from medloop.feedback.journal.head import read_head
from medloop.feedback.journal.transactions import Transactions
from medloop.feedback.journal.verify import Examination
from medloop.feedback.records import Head

BATCH_ROWS = 5000


class Journal:
    """The journal: its entries and their verification."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def entries(self, *, after: int = 0, kind: str | None = None, limit: int = 100) -> list[Entry]:
        """Return entries after a given number, oldest first."""
        columns = tables.journal.c
        query = select(tables.journal).where(columns.seq > after).order_by(columns.seq).limit(limit)
        if kind is not None:
            query = query.where(columns.kind == kind)
        with self._transactions.reading() as connection:
            return [_to_entry(row) for row in connection.execute(query)]

    def entry(self, ref: str) -> Entry | None:
        """Return the entry on a prediction, a correction or a review, or None."""
        query = select(tables.journal).where(tables.journal.c.ref == ref)
        with self._transactions.reading() as connection:
            row = connection.execute(query).one_or_none()
        return _to_entry(row) if row is not None else None

    def head(self) -> Head:
        """Return the head; noted elsewhere, it proves later that nothing before it was changed."""
        with self._transactions.reading() as connection:
            return stored_head(connection)

    def verify(self, *, noted: Head | None = None) -> list[str]:
        """Return where the journal or the tables it covers were changed; `noted` is a head that was noted earlier."""
        chain = self._transactions.chain
        # Read before the entries, which only grow.
        in_file = read_head(chain.file)
        problems: list[str] = []
        copy, copy_problems = self._read_copy()
        with self._transactions.reading() as connection:
            stored = stored_head(connection)
            heads = [head for head in (stored, in_file, copy) if head is not None and chain.signer.accepts(head)]
            examination = Examination(signer=chain.signer, heads=(*heads, *([noted] if noted else [])))
            agreement = Agreement(connection, chain.signer)
            for entries in all_entries(connection):
                sound = [entry for entry in entries if examination.check(entry)]
                problems += agreement.check(sound)
            problems += agreement.check_rest()
            problems += schema_problems(connection)
        return examination.problems(stored, in_file) + problems + self._missing_file(stored) + copy_problems

    def _read_copy(self) -> tuple[Head | None, list[str]]:
        """Return the copy of the head if it can be used, and the problems with it."""
        chain = self._transactions.chain
        if chain.copy is None:
            return None, []
        try:
            found = chain.copy.read()
        except (OSError, UserError) as error:
            return None, [f"the copy of the head (feedback.head) could not be read ({type(error).__name__})"]
        if found is None:
            return None, ["there is no copy of the head at feedback.head yet; a running service writes it"]
        return found, [] if chain.signer.accepts(found) else [
            "the copy of the head is not signed with the journal's key"
        ]

    def _missing_file(self, stored: Head) -> list[str]:
        file = self._transactions.chain.file
        # With a database server, each machine has its own file, or none.
        if file is None or stored.seq == 0 or not self._transactions.database.file or read_head(file) is not None:
            return []
        return [f"the head's file {file.name} is missing or unreadable: without it, a truncation may go unnoticed"]


def all_entries(connection: Connection) -> Iterator[list[Entry]]:
    """Yield all entries in order, in batches."""
    after, column = -(2**62), tables.journal.c.seq
    while True:
        query = select(tables.journal).where(column > after).order_by(column).limit(BATCH_ROWS)
        rows = connection.execute(query).all()
        if not rows:
            return
        after = rows[-1].seq
        yield [_to_entry(row) for row in rows]


def _to_entry(row: Any) -> Entry:
    return Entry(**row._mapping)
