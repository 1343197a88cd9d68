"""The feedback store as a whole: what the service and the commands ask for."""

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
from medloop.feedback import corrections, tables
from medloop.feedback.chain import Chain, Signer, load_signer, lock_head, stored_head
from medloop.feedback.coverage import upgrade_event
from medloop.feedback.database import Database, Places, is_stateless
from medloop.feedback.delivery import Delivery
from medloop.feedback.export import accepted_cases, write_cases
from medloop.feedback.faults import explained
from medloop.feedback.head import HeadCopy
from medloop.feedback.inputs import Inputs, input_of, inputs_of, open_inputs
from medloop.feedback.journal import Journal
from medloop.feedback.keys import Keys
from medloop.feedback.migrate import bring_up
from medloop.feedback.operations import note_of, operation_of, stored_prediction
from medloop.feedback.records import Answered, Decision, Status, StoredPrediction
from medloop.feedback.spool import Spool
from medloop.feedback.transactions import Transactions
from medloop.settings import FeedbackSettings

LOG = logging.getLogger(__name__)
DURABLE_S = 30.0


class Feedback:
    """One open store; threads may share it, a forked process may not."""

    def __init__(self, settings: FeedbackSettings, *, transactions: Transactions, spool: Spool, inputs: Inputs) -> None:
        self.settings = settings
        self._transactions, self._inputs = transactions, inputs
        self._signer = transactions.chain.signer
        self.keys = Keys(transactions)
        self.journal = Journal(transactions)
        self._delivery = Delivery(transactions, spool, inputs)

    @classmethod
    def open(cls, settings: FeedbackSettings, *, root: Path, migrate: bool, begin: bool) -> Feedback:
        """Connect, bring the tables up where that is allowed, and send what an earlier process could not."""
        places = Places.of(settings, root)
        database = Database(places.url)
        stateless = is_stateless(settings)
        with explained(), ExitStack() as stack:
            stack.callback(database.close)
            head = None if stateless else places.head
            signer_of = partial(load_signer, settings, places.key, stateless=stateless)
            cover = partial(_cover, signer_of) if settings.journal else None
            bring_up(database, left=(head, places.spool), migrate=migrate, begin=begin, cover=cover)
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

    def submit(self, served: Sequence[Answered], *, enough: int = 1) -> Future[None]:
        """Hand over answers; they may leave when the future is done, for then they are durable.

        They may wait a little for others to share their commit, until `enough` of them wait.
        """
        keep = self.settings.keep_inputs
        operations = []
        for answered in served:
            given = [(one.png, one.sha256) for one in answered.slices]
            given = given or [(answered.input_png, answered.input_sha256)]
            addresses = [self._inputs.put(png) if keep and png is not None else sha256 for png, sha256 in given]
            operations.append(operation_of(answered, addresses=addresses, keep_row=keep, signer=self._signer))
        return self._delivery.submit(operations, enough=enough)

    def record(self, served: Sequence[Answered]) -> None:
        """Store answers, and return when they are durable."""
        self.submit(served).result(DURABLE_S)

    def note(self, kind: str, content: dict[str, Any]) -> Future[None]:
        """Write something else into the journal: a promotion, a refusal; nobody needs to wait for it."""
        return self._delivery.submit([note_of(kind, content)] if self.settings.journal else [])

    def prediction(self, prediction_id: str) -> StoredPrediction | None:
        """One answer as it was stored."""
        query = select(tables.predictions).where(tables.predictions.c.id == prediction_id)
        with self._transactions.reading() as connection:
            row = connection.execute(query).one_or_none()
        return stored_prediction(row) if row is not None else None

    def input_of(self, stored: StoredPrediction, number: int = 0) -> Row | bytes | None:
        """The row or the picture that an answer was given for, or one of its slices; None where it is not kept."""
        return input_of(stored, self._inputs, number)

    def inputs_of(self, stored: StoredPrediction) -> list[Row] | list[bytes] | None:
        """All that an answer was given for; None where some of it is not kept."""
        found: list[Row] | list[bytes] | None = inputs_of(stored, self._inputs)
        return found

    @property
    def patient_key(self) -> bytes:
        """The key under which patients are hidden where the settings have none of their own."""
        return self._signer.patient_key

    def correct(
        self, prediction_id: str, label: str, reason: str, who: str, *, idempotency: str | None = None
    ) -> Correction:
        """Store that a prediction was wrong; with the database away it is checked and stored later."""
        operation = corrections.correction_of(
            prediction_id, label, reason, who, idempotency=idempotency, signer=self._signer
        )
        return self._delivery.correct(operation)

    def corrections(self, *, state: str | None = None, limit: int = 100, after: str | None = None) -> list[Correction]:
        """Corrections, oldest first; `after` is the id of the last one seen."""
        with self._transactions.reading() as connection:
            return corrections.list_corrections(connection, state=state, limit=limit, after=after)

    def review(self, correction_id: str, decision: Decision, who: str, reason: str = "") -> Correction:
        """Decide on a correction; the answer says what became of it."""
        return self._delivery.review(correction_id, decision, who, reason)

    def export_corrections(self, out: Path) -> int:
        """Write the accepted corrections as labelled cases; how many that are."""
        with self._transactions.reading() as connection:
            rows = accepted_cases(connection, self._inputs)
        write_cases(rows, out)
        return len(rows)

    def expire(self) -> int:
        """Remove the inputs that have been kept for long enough; how many that were."""
        return self._delivery.expire()

    def ready(self) -> bool:
        """Whether the next answer can be stored."""
        return self.trouble() is None

    def trouble(self) -> str | None:
        """Why answers cannot be stored as they should until somebody does something; None while they can."""
        return self._delivery.trouble()

    def status(self) -> Status:
        """How the store does."""
        return self._delivery.status()

    def close(self) -> None:
        """Write what is queued and let go of everything."""
        self._delivery.close()
        self._transactions.database.close()


def _cover(signer_of: Callable[..., Signer], connection: Connection, form: str) -> None:
    """Have the journal say what it did not say of things in the form before this one."""
    stored = lock_head(connection)
    if stored.seq:
        chain = Chain(signer_of(begun=True), None, alone=False)
        chain.append(connection, stored, [upgrade_event(connection, form=form)])
