"""The feedback store, as the service and the commands use it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from medloop.case import Correction, Row
from medloop.feedback import corrections
from medloop.feedback.db import tables
from medloop.feedback.db.database import Database, Places, is_stateless
from medloop.feedback.db.faults import explained
from medloop.feedback.db.migrate import prepare_database
from medloop.feedback.export import accepted_cases, write_cases
from medloop.feedback.inputs import Inputs, input_of, inputs_of, open_inputs
from medloop.feedback.journal.agreement import upgrade_event
from medloop.feedback.journal.chain import Chain, Signer, load_signer, lock_head, stored_head
from medloop.feedback.journal.head import HeadCopy, trace_of_journal
from medloop.feedback.journal.reading import Journal
from medloop.feedback.journal.transactions import Transactions
from medloop.feedback.keys import Keys
from medloop.feedback.operations import note_operation, prediction_operation, stored_prediction
from medloop.feedback.outage.delivery import Delivery
from medloop.feedback.outage.spool import Spool
from medloop.feedback.records import Answered, Decision, Status, StoredPrediction
from medloop.settings import FeedbackSettings

LOG = logging.getLogger(__name__)
DURABLE_SECONDS = 30.0


class Feedback:
    """An open store; threads may share it, but not forked processes."""

    def __init__(self, settings: FeedbackSettings, *, transactions: Transactions, spool: Spool, inputs: Inputs) -> None:
        self.settings = settings
        self._transactions, self._inputs = transactions, inputs
        self._signer = transactions.chain.signer
        self.keys = Keys(transactions)
        self.journal = Journal(transactions)
        self._delivery = Delivery(transactions, spool, inputs)

    @classmethod
    def open(cls, settings: FeedbackSettings, *, root: Path, migrate: bool, begin: bool) -> Feedback:
        """Connect, upgrade the tables if allowed, and deliver what an earlier process could not."""
        places = Places.of(settings, root)
        database = Database(places.url)
        stateless = is_stateless(settings)
        with explained(), ExitStack() as stack:
            stack.callback(database.close)
            head = None if stateless else places.head
            signer_of = partial(load_signer, settings, places.key, stateless=stateless)
            record = partial(_record_upgrade, signer_of) if settings.journal else None
            prepare_database(
                database, trace=trace_of_journal(head, places.spool), migrate=migrate, begin=begin, record=record
            )
            with database.reading() as connection:
                stored = stored_head(connection)
            signer = signer_of(begun=stored.seq != 0)
            copy = HeadCopy(settings.head, root) if settings.head else None
            chain = Chain(signer, head, alone=database.file is not None, copy=copy)
            if stored.seq == 0:
                with database.writing() as connection:
                    chain.begin(lock_head(connection))
            store = cls(
                settings,
                transactions=Transactions(database, chain, journal=settings.journal),
                spool=Spool(places.spool, signer, limit=int(settings.spool_mib * 2**20)),
                inputs=open_inputs(settings.inputs, root, places.outbox, days=settings.keep_days),
            )
            stack.pop_all()
        return store

    def submit(self, predictions: Sequence[Answered], *, enough: int = 1) -> Future[None]:
        """Queue predictions; they may be returned once the future is done, because they are then durable.

        They may wait briefly to share their commit with others, until `enough` of them are queued.
        """
        keep = self.settings.keep_inputs
        operations = []
        for answered in predictions:
            images = [(one.png, one.sha256) for one in answered.slices]
            images = images or [(answered.input_png, answered.input_sha256)]
            addresses = [self._inputs.put(png) if keep and png is not None else sha256 for png, sha256 in images]
            operations.append(prediction_operation(answered, addresses=addresses, keep_row=keep, signer=self._signer))
        return self._delivery.submit(operations, enough=enough)

    def record(self, predictions: Sequence[Answered]) -> None:
        """Store predictions, and return when they are durable."""
        self.submit(predictions).result(DURABLE_SECONDS)

    def note(self, kind: str, content: dict[str, Any]) -> Future[None]:
        """Write another event into the journal, such as a promotion or a refusal; callers need not wait for it."""
        return self._delivery.submit([note_operation(kind, content)] if self.settings.journal else [])

    def prediction(self, prediction_id: str) -> StoredPrediction | None:
        """Return a stored prediction, or None."""
        query = select(tables.predictions).where(tables.predictions.c.id == prediction_id)
        with self._transactions.reading() as connection:
            row = connection.execute(query).one_or_none()
        return stored_prediction(row) if row is not None else None

    def input_of(self, stored: StoredPrediction, number: int = 0) -> Row | bytes | None:
        """Return the row, the image or one of the slices of a prediction, or None if it is not kept."""
        return input_of(stored, self._inputs, number)

    def inputs_of(self, stored: StoredPrediction) -> list[Row] | list[bytes] | None:
        """Return all inputs of a prediction, or None if some of them are not kept."""
        found: list[Row] | list[bytes] | None = inputs_of(stored, self._inputs)
        return found

    @property
    def patient_key(self) -> bytes:
        """Return the key for hashing patients, used if the settings have none."""
        return self._signer.patient_key

    def correct(
        self, prediction_id: str, label: str, reason: str, who: str, *, idempotency: str | None = None
    ) -> Correction:
        """Store a correction; while the database is unavailable it is checked and stored later."""
        operation = corrections.new_correction(
            prediction_id, label, reason, who, idempotency=idempotency, signer=self._signer
        )
        return self._delivery.correct(operation)

    def corrections(self, *, state: str | None = None, limit: int = 100, after: str | None = None) -> list[Correction]:
        """Return corrections, oldest first; `after` is the id of the last one seen."""
        with self._transactions.reading() as connection:
            return corrections.list_corrections(connection, state=state, limit=limit, after=after)

    def review(self, correction_id: str, decision: Decision, who: str, reason: str = "") -> Correction:
        """Decide on a correction and return it with its new state."""
        return self._delivery.review(correction_id, decision, who, reason)

    def export_corrections(self, out: Path) -> int:
        """Write the accepted corrections as labelled cases and return how many."""
        with self._transactions.reading() as connection:
            rows = accepted_cases(connection, self._inputs)
        write_cases(rows, out)
        return len(rows)

    def expire(self) -> int:
        """Remove expired inputs and return how many."""
        return self._delivery.expire()

    def ready(self) -> bool:
        """Return whether the next prediction can be stored."""
        return self.trouble() is None

    def trouble(self) -> str | None:
        """Return why predictions cannot be stored until a person intervenes, or None while they can."""
        return self._delivery.trouble()

    def status(self) -> Status:
        """Return the state of the store."""
        return self._delivery.status()

    def close(self) -> None:
        """Write what is queued and close everything."""
        self._delivery.close()
        self._transactions.database.close()


def _record_upgrade(signer_of: Callable[..., Signer], connection: Connection, form: str) -> None:
    """Write into the journal what it did not cover before an upgrade of the tables."""
    stored = lock_head(connection)
    if stored.seq:
        chain = Chain(signer_of(begun=True), None, alone=False)
        chain.append(connection, stored, [upgrade_event(connection, form=form)])
