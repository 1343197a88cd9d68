"""Transactions: every change of the database is committed together with its journal entries."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy import Connection, update

from medloop.feedback.db import tables
from medloop.feedback.db.database import Database
from medloop.feedback.db.faults import Older
from medloop.feedback.db.private_files import check_room
from medloop.feedback.journal.chain import Chain, Event, alarm, lock_head, stored_head
from medloop.feedback.journal.head import read_head
from medloop.feedback.records import Head

LOG = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Transaction:
    """An open transaction, and the events to write into the journal."""

    connection: Connection
    stored: Head
    events: list[Event] = field(default_factory=list)


class Transactions:
    """Opens transactions; one thread at a time writes."""

    def __init__(self, database: Database, chain: Chain, *, journal: bool) -> None:
        self.database, self.chain = database, chain
        self._journal = journal
        self._lock = threading.Lock()
        self._copied: Head | None = None

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """Open a write transaction; it is committed with its entries when the block ends without an error."""
        with self._lock:
            with self.database.writing() as connection:
                stored = lock_head(connection)
                transaction = Transaction(connection=connection, stored=stored)
                yield transaction
                head = self.chain.append(connection, stored, transaction.events if self._journal else ())
            self.chain.remember(head)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a read transaction."""
        with self.database.reading() as connection:
            yield connection

    def check_not_older(self) -> None:
        """Raise Older if the journal in the database ends before the newest entry known to be stored."""
        # Read first: an entry is committed before it is written to the file.
        noted, known = read_head(self.chain.file), self.chain.known
        with self.reading() as connection:
            stored = stored_head(connection)
        heads = [one for one in (noted, known) if one is not None and self.chain.signer.accepts(one)]
        if any(one.seq > stored.seq for one in heads):
            raise Older("the database is older than what was written to it")
        self.database.accept_file()

    def try_writing(self) -> None:
        """Test whether the database can be written, and whether there is space, without changing anything."""
        if self.database.file is not None:
            check_room(self.database.file.parent)
        with self.writing() as transaction:
            column = tables.journal_head.c.seq
            transaction.connection.execute(update(tables.journal_head).values(seq=column))

    def copy_head(self) -> None:
        """Copy the head to the other place, after checking that the journal contains the head kept there."""
        copy = self.chain.copy
        if copy is None:
            return
        with self.reading() as connection:
            stored = stored_head(connection)
        if stored == self._copied:
            return
        found = copy.read()
        differs = found is not None and self._copied is None and self._report_difference(found)
        is_older = found is None or differs or found.seq < stored.seq
        if is_older and self.chain.signer.accepts(stored):
            copy.write(stored)
        self._copied = stored

    def _report_difference(self, found: Head) -> bool:
        """Write into the journal how it differs from the copy of its head, and return whether it does."""
        with self.writing() as transaction:
            damage = self.chain.difference_from(transaction.connection, found)
            if damage is not None:
                LOG.error("the journal was changed from outside: %s", damage)
                transaction.events.append(alarm(damage))
        return damage is not None
