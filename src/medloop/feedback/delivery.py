"""The way into the database, and around it while it is away: nothing that was accepted is lost."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import closing

from sqlalchemy.exc import SQLAlchemyError

from medloop.case import Correction
from medloop.errors import UserError
from medloop.feedback.chain import stored_head
from medloop.feedback.corrections import add_correction, add_review, correction_from
from medloop.feedback.expiry import expire
from medloop.feedback.faults import OLDER, explained, is_away, lasting_reason
from medloop.feedback.inputs import Inputs
from medloop.feedback.keeper import Keeper
from medloop.feedback.operations import CORRECTION, Operation, insert_all, refs_stored
from medloop.feedback.records import Decision, FeedbackAway, Status
from medloop.feedback.spool import Spool, SpoolFile
from medloop.feedback.transactions import Transaction, Transactions
from medloop.feedback.writer import Writer

LOG = logging.getLogger(__name__)
EXPIRE_S = 3600.0
DELIVERY, KEY, COPY, INPUTS, EXPIRY = (
    "the delivery of spooled answers",
    "the comparison with the journal's key",
    "the copy of the journal's head",
    "the keeping of inputs",
    "the removal of old inputs",
)


class Delivery:
    """Writes in order: through the one writer while the database answers, through the spool while it does not."""

    def __init__(self, transactions: Transactions, spool: Spool, inputs: Inputs) -> None:
        self._transactions, self._spool, self._inputs = transactions, spool, inputs
        self._spooling = threading.Lock()
        # What an earlier process left goes in first.
        self._away = True
        # Whether it was there in this process; what an earlier one left may be older, and then raises the alarm.
        self._was_there = False
        # Whether the database failed, and why it will go on failing until somebody repairs it.
        self._failed = False
        self._reason: str | None = None
        self._expired = float("-inf")
        self._watcher = Keeper({DELIVERY: self._look, KEY: transactions.chain.signer.look_after})
        # Apart, for an object store may take its time.
        self._keeper = Keeper({COPY: self._copy_head, INPUTS: inputs.sync, EXPIRY: self._expire_at_times})
        self._watcher.attempt(DELIVERY)
        self._writer: Writer[Operation] = Writer(self._write)
        self._watcher.start()
        self._keeper.start()

    def trouble(self) -> str | None:
        """Why answers cannot be stored as they should until somebody does something; None while they can."""
        status = self.status()
        away = (self._reason, self._spool.fault, None if status.room_bytes else "the spool is full")
        found = (
            None if self._writer.alive else "the thread that writes answers has ended",
            self._watcher.fault,
            self._keeper.fault,
            *(away if status.away else ()),
            self._inputs.fault,
            self._transactions.chain.fault,
            self._transactions.chain.signer.fault,
        )
        return next((one for one in found if one is not None), None)

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
        if self._reason == OLDER:
            raise FeedbackAway("The feedback database cannot be used", found=OLDER, hint="try again after that")
        with explained(), self._transactions.writing() as transaction:
            return add_review(transaction, correction_id, decision, who, reason, signer=signer)

    def expire(self) -> int:
        """Remove old inputs: the values of rows from the database, and pictures from their place."""
        return expire(self._transactions, self._inputs)

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
        self._watcher.close()
        self._keeper.close()
        self._watcher.attempt(DELIVERY)
        self._spool.close()
        if self._transactions.chain.has_grown:
            self._keeper.attempt(COPY)
        self._keeper.attempt(INPUTS)

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
        reason = lasting_reason(error)
        with self._spooling:
            if not self._away:
                found = reason or type(error).__name__
                LOG.warning("the feedback database is away (%s); answers go to the spool", found)
            self._away, self._failed, self._reason = True, True, reason

    def _spooled(self, operations: Sequence[Operation]) -> bool:
        """Keep operations in the spool while the database is away; False when it is there."""
        with self._spooling:
            if self._away:
                self._spool.append(operations)
            return self._away

    def _look(self) -> None:
        """See whether the database is there, before an answer finds out; deliver what waits for it."""
        try:
            if self._away:
                self._catch_up()
            with self._transactions.reading() as connection:
                stored_head(connection)
        except (SQLAlchemyError, OSError, FeedbackAway) as error:
            self._leave(error)
        if self._transactions.chain.fault is not None:
            self._transactions.chain.note()

    def _copy_head(self) -> None:
        if not self._away:
            self._transactions.copy_head()

    def _expire_at_times(self) -> None:
        if not self._away and time.monotonic() - self._expired > EXPIRE_S:
            self._expired = time.monotonic()
            self.expire()

    def _catch_up(self) -> None:
        """Bring what was spooled into the database, in order, then let the writer go there again."""
        if self._was_there:
            self._transactions.check_not_older()
        with closing(self._spool.orphans()) as orphans:
            for orphan in orphans:
                self._drain(orphan, 0)
                orphan.remove()
        if self._failed:
            # Perhaps nothing waits that would show whether it can be written again.
            self._transactions.try_writing()
        offset = 0
        while self._away:
            if self._spool.file is not None:
                offset = self._drain(self._spool.file, offset)
            with self._spooling:
                if not self._spool.has_lines(offset):
                    self._spool.done()
                    self._away, self._failed, self._reason, self._was_there = False, False, None, True

    def _drain(self, file: SpoolFile, offset: int) -> int:
        """Bring the lines of one file into the database; where the rest begins."""
        while True:
            lines, after = file.read(offset)
            if not lines:
                return offset
            try:
                self._deliver(lines)
            except (SQLAlchemyError, UserError, ValueError, TypeError, LookupError) as error:
                if is_away(error):
                    raise
                for line in lines:
                    self._deliver_alone(line)
            offset = after

    def _deliver(self, lines: Sequence[bytes]) -> None:
        operations = [self._spool.parse(line) for line in lines]
        with self._transactions.writing() as transaction:
            stored = refs_stored(transaction.connection, operations)
            for operation in operations:
                if operation.ref not in stored:
                    _apply(transaction, operation)

    def _deliver_alone(self, line: bytes) -> None:
        try:
            self._deliver([line])
        except (SQLAlchemyError, UserError, ValueError, TypeError, LookupError) as error:
            if is_away(error):
                raise
            LOG.warning("a spooled line was refused (%s) and is set aside", type(error).__name__)
            self._spool.set_aside(line)


def _apply(transaction: Transaction, operation: Operation) -> None:
    if operation.kind == CORRECTION:
        add_correction(transaction, operation)
    else:
        insert_all(transaction, [operation])
