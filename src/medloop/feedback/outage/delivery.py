"""Writing to the database, or to the spool while it is unavailable, so that nothing accepted is lost."""

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
from medloop.feedback.corrections import add_correction, add_review, correction_from
from medloop.feedback.db.faults import OLDER, explained, is_away, lasting_reason
from medloop.feedback.db.writer import Writer
from medloop.feedback.inputs import Inputs, expire_inputs
from medloop.feedback.journal.chain import stored_head
from medloop.feedback.journal.transactions import Transaction, Transactions
from medloop.feedback.operations import CORRECTION, Operation, insert_operations, stored_refs
from medloop.feedback.outage.background_jobs import BackgroundJobs
from medloop.feedback.outage.spool import Spool, SpoolFile
from medloop.feedback.records import Decision, FeedbackAway, Status

LOG = logging.getLogger(__name__)
EXPIRE_S = 3600.0
DELIVERY, KEY, COPY, INPUTS, EXPIRY = (
    "the delivery of spooled predictions",
    "the check of the journal's key file",
    "the copy of the journal's head",
    "the storage of inputs",
    "the removal of expired inputs",
)


class Delivery:
    """Writes in order: to the database through the writer, or to the spool while the database is unavailable."""

    def __init__(self, transactions: Transactions, spool: Spool, inputs: Inputs) -> None:
        self._transactions, self._spool, self._inputs = transactions, spool, inputs
        self._spooling = threading.Lock()
        # What an earlier process left is delivered first.
        self._away = True
        # Whether this process has reached it: only then is an older database refused, not just reported.
        self._was_available = False
        # Whether the database has failed, and why it needs a person, if so.
        self._failed = False
        self._reason: str | None = None
        self._expired = float("-inf")
        self._database_jobs = BackgroundJobs(
            {DELIVERY: self._check_database, KEY: transactions.chain.signer.check_file}
        )
        # On another thread, because an object store may be slow.
        self._other_jobs = BackgroundJobs(
            {COPY: self._copy_head, INPUTS: inputs.sync, EXPIRY: self._expire_periodically}
        )
        self._database_jobs.attempt(DELIVERY)
        self._writer: Writer[Operation] = Writer(self._write)
        self._database_jobs.start()
        self._other_jobs.start()

    def trouble(self) -> str | None:
        """Return why predictions cannot be stored until a person intervenes, or None while they can."""
        status = self.status()
        of_outage = (self._reason, self._spool.fault, None if status.room_bytes else "the spool is full")
        faults = (
            None if self._writer.alive else "the thread that writes predictions has ended",
            self._database_jobs.fault,
            self._other_jobs.fault,
            *(of_outage if status.away else ()),
            self._inputs.fault,
            self._transactions.chain.fault,
            self._transactions.chain.signer.fault,
        )
        return next((one for one in faults if one is not None), None)

    def submit(self, operations: Sequence[Operation], *, enough: int = 1) -> Future[None]:
        """Queue operations; the future is done when they are durable."""
        return self._writer.submit(operations, enough=enough)

    def correct(self, operation: Operation) -> Correction:
        """Store a correction now, or spool it until it can be checked."""
        if not self._append_to_spool([operation]):
            try:
                with self._transactions.writing() as transaction:
                    return add_correction(transaction, operation)
            except (SQLAlchemyError, OSError) as error:
                self._mark_away(error)
                self._append_to_spool([operation])
        return correction_from(operation.values)

    def review(self, correction_id: str, decision: Decision, who: str, reason: str) -> Correction:
        """Decide on a correction; this needs the database."""
        signer = self._transactions.chain.signer
        if self._reason == OLDER:
            raise FeedbackAway(f"The feedback database is unavailable: {OLDER}.", "Try again after that.")
        with explained(), self._transactions.writing() as transaction:
            return add_review(transaction, correction_id, decision, who, reason, signer=signer)

    def expire(self) -> int:
        """Remove expired inputs: values of rows from the database, and images."""
        return expire_inputs(self._transactions, self._inputs)

    def status(self) -> Status:
        """Return the state of the store."""
        size = self._spool.size
        return Status(
            away=self._away,
            queued=self._writer.queued,
            spooled_bytes=size,
            room_bytes=max(0, self._spool.limit - size),
        )

    def close(self) -> None:
        """Write what is queued, and deliver the spool if the database is available."""
        self._writer.close()
        self._database_jobs.close()
        self._other_jobs.close()
        self._database_jobs.attempt(DELIVERY)
        self._spool.close()
        if self._transactions.chain.has_grown:
            self._other_jobs.attempt(COPY)
        self._other_jobs.attempt(INPUTS)

    def _write(self, operations: list[Operation]) -> None:
        """Write a group in one transaction, or to the spool."""
        if self._append_to_spool(operations):
            return
        try:
            with self._transactions.writing() as transaction:
                insert_operations(transaction, operations)
        except (SQLAlchemyError, OSError) as error:
            self._mark_away(error)
            self._append_to_spool(operations)

    def _mark_away(self, error: Exception) -> None:
        """Switch to the spool if the database is at fault; raise other errors."""
        if not is_away(error):
            raise error
        reason = lasting_reason(error)
        with self._spooling:
            if not self._away:
                cause = reason or type(error).__name__
                LOG.warning("the feedback database is unavailable (%s); predictions go to the spool", cause)
            self._away, self._failed, self._reason = True, True, reason

    def _append_to_spool(self, operations: Sequence[Operation]) -> bool:
        """Spool operations while the database is unavailable; return False if it is available."""
        with self._spooling:
            if self._away:
                self._spool.append(operations)
            return self._away

    def _check_database(self) -> None:
        """Check the database before a prediction fails, and deliver what is spooled."""
        try:
            if self._away:
                self._catch_up()
            with self._transactions.reading() as connection:
                stored_head(connection)
        except (SQLAlchemyError, OSError, FeedbackAway) as error:
            self._mark_away(error)
        if self._transactions.chain.fault is not None:
            self._transactions.chain.write_file()

    def _copy_head(self) -> None:
        if not self._away:
            self._transactions.copy_head()

    def _expire_periodically(self) -> None:
        if not self._away and time.monotonic() - self._expired > EXPIRE_S:
            self._expired = time.monotonic()
            self.expire()

    def _catch_up(self) -> None:
        """Deliver the spool in order, then let the writer use the database again."""
        if self._was_available:
            self._transactions.check_not_older()
        with closing(self._spool.orphans()) as orphans:
            for orphan in orphans:
                self._deliver_file(orphan, 0)
                orphan.remove()
        if self._failed:
            # Possibly nothing is spooled that would show whether it can be written again.
            self._transactions.try_writing()
        offset = 0
        while self._away:
            if self._spool.file is not None:
                offset = self._deliver_file(self._spool.file, offset)
            with self._spooling:
                if not self._spool.has_lines(offset):
                    self._spool.finish()
                    self._away, self._failed, self._reason, self._was_available = False, False, None, True

    def _deliver_file(self, file: SpoolFile, offset: int) -> int:
        """Deliver the lines of one file and return the offset behind them."""
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
            stored = stored_refs(transaction.connection, operations)
            for operation in operations:
                if operation.ref not in stored:
                    _apply(transaction, operation)

    def _deliver_alone(self, line: bytes) -> None:
        try:
            self._deliver([line])
        except (SQLAlchemyError, UserError, ValueError, TypeError, LookupError) as error:
            if is_away(error):
                raise
            LOG.warning("a spooled line was refused (%s) and set aside", type(error).__name__)
            self._spool.set_aside(line)


def _apply(transaction: Transaction, operation: Operation) -> None:
    if operation.kind == CORRECTION:
        add_correction(transaction, operation)
    else:
        insert_operations(transaction, [operation])
