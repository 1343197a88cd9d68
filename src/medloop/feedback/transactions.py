"""Every change of the database is one transaction that ends with its entries in the journal."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy import Connection, update

from medloop.feedback import tables
from medloop.feedback.chain import Chain, Event, alarm, lock_head, stored_head
from medloop.feedback.database import Database
from medloop.feedback.faults import Older
from medloop.feedback.head import read_head
from medloop.feedback.records import Head
from medloop.feedback.room import check_room

LOG = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Transaction:
    """A change that is being made, and what the journal shall say of it."""

    connection: Connection
    stored: Head
    events: list[Event] = field(default_factory=list)


class Transactions:
    """Opens transactions, one at a time in this process."""

    def __init__(self, database: Database, chain: Chain, *, journal: bool) -> None:
        self.database, self.chain = database, chain
        self._journal = journal
        self._turn = threading.Lock()
        self._copied: Head | None = None

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """A change; when the block ends well it is durable, and so are its entries."""
        with self._turn:
            with self.database.writing() as connection:
                stored = lock_head(connection)
                transaction = Transaction(connection=connection, stored=stored)
                yield transaction
                head = self.chain.append(connection, stored, self._kept(transaction.events))
            self.chain.seen(head)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A look at one moment."""
        with self.database.reading() as connection:
            yield connection

    def check_not_older(self) -> None:
        """Raise if the database ends before the newest entry that is known to be stored."""
        # Read first: whoever adds an entry commits it before it is noted there.
        noted, known = read_head(self.chain.file), self.chain.known
        with self.reading() as connection:
            stored = stored_head(connection)
        heads = [one for one in (noted, known) if one is not None and self.chain.signer.accepts(one)]
        if any(one.seq > stored.seq for one in heads):
            raise Older("the database ends before what was written into it")
        self.database.accept_file()

    def try_writing(self) -> None:
        """Change something without changing it, to see whether that is possible, and whether more would be."""
        if self.database.file is not None:
            check_room(self.database.file.parent)
        with self.writing() as transaction:
            column = tables.journal_head.c.seq
            transaction.connection.execute(update(tables.journal_head).values(seq=column))

    def copy_head(self) -> None:
        """Keep the newest entry at the other place, once it is known that the journal holds what was kept there."""
        copy = self.chain.copy
        if copy is None:
            return
        with self.reading() as connection:
            stored = stored_head(connection)
        if stored == self._copied:
            return
        found = copy.read()
        differs = found is not None and self._copied is None and self._tell_difference(found)
        is_older = found is None or differs or found.seq < stored.seq
        if is_older and self.chain.signer.accepts(stored):
            copy.write(stored)
        self._copied = stored

    def _tell_difference(self, found: Head) -> bool:
        """Write into the journal how it differs from the copy of its head, if it does."""
        with self.writing() as transaction:
            trouble = self.chain.difference_from(transaction.connection, found)
            if trouble is not None:
                LOG.error("the journal is not as it was left: %s", trouble)
                transaction.events.append(alarm(trouble))
        return trouble is not None

    def _kept(self, events: Sequence[Event]) -> Sequence[Event]:
        return events if self._journal else ()
