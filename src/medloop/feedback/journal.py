"""Reading the journal, and saying where somebody has laid hands on it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, select

from medloop.errors import UserError
from medloop.feedback import tables
from medloop.feedback.agreement import Agreement
from medloop.feedback.chain import Entry, stored_head
from medloop.feedback.head import read_head
from medloop.feedback.records import Head
from medloop.feedback.schema import schema_problems
from medloop.feedback.transactions import Transactions
from medloop.feedback.verify import Examination

ROWS_AT_ONCE = 5000


class Journal:
    """The entries, oldest first, and their verification."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def entries(self, *, after: int = 0, kind: str | None = None, limit: int = 100) -> list[Entry]:
        """Entries from after one on."""
        columns = tables.journal.c
        query = select(tables.journal).where(columns.seq > after).order_by(columns.seq).limit(limit)
        if kind is not None:
            query = query.where(columns.kind == kind)
        with self._transactions.reading() as connection:
            return [_entry(row) for row in connection.execute(query)]

    def entry(self, ref: str) -> Entry | None:
        """The entry about an answer, a correction or a review."""
        query = select(tables.journal).where(tables.journal.c.ref == ref)
        with self._transactions.reading() as connection:
            row = connection.execute(query).one_or_none()
        return _entry(row) if row is not None else None

    def head(self) -> Head:
        """The newest entry; noted elsewhere, it shows later that nothing up to it was changed."""
        with self._transactions.reading() as connection:
            return stored_head(connection)

    def verify(self, *, noted: Head | None = None) -> list[str]:
        """Where the journal, or what it speaks of, is not as it was written; `noted` is a head that was noted once."""
        chain = self._transactions.chain
        # Read before the entries are, which only grow.
        apart = read_head(chain.file)
        problems: list[str] = []
        copy, troubles = self._copy()
        with self._transactions.reading() as connection:
            stored = stored_head(connection)
            heads = [head for head in (stored, apart, copy) if head is not None and chain.signer.accepts(head)]
            examination = Examination(signer=chain.signer, heads=(*heads, *([noted] if noted else [])))
            agreement = Agreement(connection, chain.signer)
            for entries in all_entries(connection):
                sound = [entry for entry in entries if examination.look_at(entry)]
                problems += agreement.look_at(sound)
            problems += agreement.look_at_rest()
            problems += schema_problems(connection)
        return examination.problems(stored, apart) + problems + self._missing_file(stored) + troubles

    def _copy(self) -> tuple[Head | None, list[str]]:
        """The head at the other place, and why it proves nothing."""
        chain = self._transactions.chain
        if chain.copy is None:
            return None, []
        try:
            found = chain.copy.read()
        except (OSError, UserError) as error:
            return None, [f"the copy of the head (feedback.head) could not be read ({type(error).__name__})"]
        if found is None:
            return None, ["there is no copy of the head at feedback.head yet: a running service writes it"]
        return found, [] if chain.signer.accepts(found) else [
            "the copy of the head is not signed with the journal's key"
        ]

    def _missing_file(self, stored: Head) -> list[str]:
        file = self._transactions.chain.file
        # Beside a server's database each machine has a file of its own, or none.
        if file is None or stored.seq == 0 or not self._transactions.database.file or read_head(file) is not None:
            return []
        return [f"the head's file {file.name} is gone or unreadable: without it a cut at the end may not show"]


def all_entries(connection: Connection) -> Iterator[list[Entry]]:
    """Every entry in order, some at a time."""
    after, column = -(2**62), tables.journal.c.seq
    while True:
        query = select(tables.journal).where(column > after).order_by(column).limit(ROWS_AT_ONCE)
        rows = connection.execute(query).all()
        if not rows:
            return
        after = rows[-1].seq
        yield [_entry(row) for row in rows]


def _entry(row: Any) -> Entry:
    return Entry(**row._mapping)
