"""Every change of the database is one transaction that ends with its entries in the journal."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy import Connection

from medloop.feedback.chain import Chain, Event, lock_head
from medloop.feedback.database import Database


@dataclass(kw_only=True)
class Transaction:
    """A change that is being made, and what the journal shall say of it."""

    connection: Connection
    events: list[Event] = field(default_factory=list)


class Transactions:
    """Opens transactions, one at a time in this process."""

    def __init__(self, database: Database, chain: Chain, *, journal: bool) -> None:
        self.database, self.chain = database, chain
        self._journal = journal
        self._turn = threading.Lock()

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """A change; when the block ends well it is durable, and so are its entries."""
        with self._turn:
            with self.database.writing() as connection:
                stored = lock_head(connection)
                transaction = Transaction(connection=connection)
                yield transaction
                head = self.chain.append(connection, stored, self._kept(transaction.events))
            self.chain.seen(head)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A look at one moment."""
        with self.database.reading() as connection:
            yield connection

    def _kept(self, events: Sequence[Event]) -> Sequence[Event]:
        return events if self._journal else ()
