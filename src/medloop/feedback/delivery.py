"""The way into the database, and around it while it is away: nothing that was accepted is lost."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta

from sqlalchemy import update
from sqlalchemy.exc import SQLAlchemyError

from medloop.case import Correction
from medloop.errors import UserError
from medloop.feedback import tables
from medloop.feedback.corrections import add_correction, add_review, correction_from
from medloop.feedback.database import explained, is_away
from medloop.feedback.inputs import Inputs
from medloop.feedback.operations import CORRECTION, Operation, insert_all, refs_stored
from medloop.feedback.records import Decision, FeedbackAway, Status
from medloop.feedback.spool import Spool, SpoolFile
from medloop.feedback.transactions import Transaction, Transactions
from medloop.feedback.writer import Writer

LOG = logging.getLogger(__name__)
RETRY_S = 1.0
EXPIRE_S = 3600.0


class Delivery:
    """Writes in order: through the one writer while the database answers, through the spool while it does not."""

    def __init__(self, transactions: Transactions, spool: Spool, inputs: Inputs) -> None:
        self._transactions, self._spool, self._inputs = transactions, spool, inputs
        self._spooling = threading.Lock()
        # What an earlier process left goes in first.
        self._away = True
        self._ended = threading.Event()
        self._catch_up()
        self._writer: Writer[Operation] = Writer(self._write)
        self._keeper = threading.Thread(target=self._keep, name="medloop-feedback-keeper", daemon=True)
        self._keeper.start()

    @property
    def alive(self) -> bool:
        """Whether what is handed over gets written."""
        return self._writer.alive

    def submit(self, operations: Sequence[Operation], *, enough: int = 1) -> Future[None]:
        """Queue operations; the future is done when they are durable."""
        return self._writer.submit(operations, enough=enough)

    def correct(self, operation: Operation) -> Correction:
        """Store a correction now, or keep it until it can be checked."""
        if not self._spooled([operation]):
            try:
                with self._transactions.writing() as transaction:
                    return add_correction(transaction, operation)
            except (SQLAlchemyError, OSError) as error:
                self._leave(error)
                self._spooled([operation])
        return correction_from(operation.values)

    def review(self, correction_id: str, decision: Decision, who: str, reason: str) -> Correction:
        """Decide on a correction; this needs the database."""
        signer = self._transactions.chain.signer
        with explained(), self._transactions.writing() as transaction:
            return add_review(transaction, correction_id, decision, who, reason, signer=signer)

    def expire(self) -> int:
        """Remove old inputs: pictures from their place, and the values of rows from the database."""
        before = (datetime.now(UTC) - timedelta(days=self._inputs.days)).isoformat(timespec="microseconds")
        columns = tables.predictions.c
        with explained(), self._transactions.writing() as transaction:
            query = update(tables.predictions).where(columns.at < before, columns.row.is_not(None)).values(row=None)
            rows = transaction.connection.execute(query).rowcount
        return rows + self._inputs.expire()

    def status(self) -> Status:
        """How it goes."""
        size = self._spool.size
        return Status(
            away=self._away,
            queued=self._writer.queued,
            spooled_bytes=size,
            room_bytes=max(0, self._spool.limit - size),
        )

    def close(self) -> None:
        """Write what is queued, and what waits in the spool if the database is there."""
        self._writer.close()
        self._ended.set()
        self._keeper.join()
        self._catch_up()
        self._spool.close()
        with suppress(OSError, UserError):
            self._inputs.sync()

    def _write(self, operations: list[Operation]) -> None:
        """One group, in one transaction or into the spool."""
        if self._spooled(operations):
            return
        try:
            with self._transactions.writing() as transaction:
                insert_all(transaction, operations)
        except (SQLAlchemyError, OSError) as error:
            self._leave(error)
            self._spooled(operations)

    def _leave(self, error: Exception) -> None:
        """Turn to the spool, if the database is the trouble."""
        if not is_away(error):
            raise error
        with self._spooling:
            if not self._away:
                LOG.warning("the feedback database is away (%s); answers go to the spool", type(error).__name__)
            self._away = True

    def _spooled(self, operations: Sequence[Operation]) -> bool:
        """Keep operations in the spool while the database is away; False when it is there."""
        with self._spooling:
            if self._away:
                self._spool.append(operations)
            return self._away

    def _keep(self) -> None:
        """Look after what nobody waits for."""
        expired = time.monotonic() - EXPIRE_S
        while not self._ended.wait(RETRY_S):
            if self._away:
                self._catch_up()
            try:
                self._inputs.sync()
                if not self._away and time.monotonic() - expired > EXPIRE_S:
                    expired = time.monotonic()
                    self.expire()
            except (OSError, UserError) as error:
                LOG.warning("inputs could not be sent or removed (%s); it is tried again", type(error).__name__)

    def _catch_up(self) -> None:
        """Bring what was spooled into the database, in order, then let the writer go there again."""
        try:
            with closing(self._spool.orphans()) as orphans:
                for orphan in orphans:
                    self._drain(orphan, 0)
                    orphan.remove()
            offset = 0
            while self._away:
                if self._spool.file is not None:
                    offset = self._drain(self._spool.file, offset)
                with self._spooling:
                    if offset >= self._spool.size:
                        self._spool.done()
                        self._away = False
        except (SQLAlchemyError, OSError, FeedbackAway) as error:
            if not isinstance(error, FeedbackAway) and not is_away(error):
                LOG.exception("the spool could not be brought into the feedback database")

    def _drain(self, file: SpoolFile, offset: int) -> int:
        """Bring the lines of one file into the database; where the rest begins."""
        while True:
            lines, after = file.read(offset)
            if not lines:
                return offset
            try:
                self._deliver(lines)
            except (SQLAlchemyError, UserError, ValueError, TypeError) as error:
                if isinstance(error, FeedbackAway) or is_away(error):
                    raise
                for line in lines:
                    self._deliver_alone(line)
            offset = after

    def _deliver(self, lines: Sequence[str]) -> None:
        operations = [self._spool.parse(line) for line in lines]
        with self._transactions.writing() as transaction:
            stored = refs_stored(transaction.connection, operations)
            for operation in operations:
                if operation.ref not in stored:
                    _apply(transaction, operation)

    def _deliver_alone(self, line: str) -> None:
        try:
            self._deliver([line])
        except (SQLAlchemyError, UserError, ValueError, TypeError) as error:
            if isinstance(error, FeedbackAway) or is_away(error):
                raise
            LOG.warning("a spooled line was refused (%s) and is set aside", type(error).__name__)
            self._spool.set_aside(line)


def _apply(transaction: Transaction, operation: Operation) -> None:
    if operation.kind == CORRECTION:
        add_correction(transaction, operation)
    else:
        insert_all(transaction, [operation])
