"""Pending writes: predictions, corrections and notes, in a form that also fits into a line of the spool."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, insert, select

from medloop.case import Prediction
from medloop.errors import UnknownName, UserError
from medloop.feedback.db import tables
from medloop.feedback.journal.chain import Event, Signer, canonical, sha256_text
from medloop.feedback.journal.transactions import Transaction
from medloop.feedback.records import Answered, KeptSlice, StoredPrediction
from medloop.times import utc_now

PREDICTION, CORRECTION = "prediction", "correction"
PATIENT_COLUMNS = ("patient", "slices")
MAX_VALUE_CHARS = 200
_INSERT_PREDICTIONS = insert(tables.predictions)

# The journal entries on other events. Their fields are listed, so that no patient data can get in.
NOTES: dict[str, frozenset[str]] = {
    "start": frozenset({"medloop", "version", "bundle"}),
    "stop": frozenset({"medloop", "version", "bundle"}),
    "swap": frozenset({"version", "bundle", "previous", "found"}),
    "promotion": frozenset({"version", "bundle", "previous", "by"}),
    "rollback": frozenset({"version", "bundle", "previous", "by"}),
    "reference": frozenset({"version", "bundle", "previous", "by"}),
    "restore": frozenset({"created", "seq", "hash"}),
    "refusal": frozenset({"status", "error", "method", "route", "key", "role", "trace_id"}),
}


@dataclass(frozen=True, kw_only=True)
class Operation:
    """A row to write, and the content of its journal entry."""

    kind: str
    ref: str
    at: str
    values: dict[str, Any]
    content: dict[str, Any]

    def event(self) -> Event:
        """Return the journal entry."""
        return Event(kind=self.kind, ref=self.ref, at=self.at, content=self.content)

    def to_line(self) -> str:
        """Return a line of the spool."""
        return canonical(vars(self))

    @classmethod
    def from_line(cls, line: str) -> Operation:
        """Read a line of the spool, possibly from an older medloop without patients."""
        operation = cls(**json.loads(line))
        if operation.kind != PREDICTION:
            return operation
        return replace(operation, values={**dict.fromkeys(PATIENT_COLUMNS), **operation.values})


def prediction_operation(answered: Answered, *, addresses: Sequence[str], keep_row: bool, signer: Signer) -> Operation:
    """Return the row of a prediction and its entry; `addresses` are those of the input or of each slice."""
    prediction = answered.prediction
    row = canonical(answered.row) if answered.row is not None else None
    width, height = answered.size or (None, None)
    at = utc_now()
    values = {
        "id": prediction.id,
        "at": at,
        "kind": answered.kind,
        "label": prediction.label,
        "abstained": prediction.abstained,
        "version": prediction.version,
        "bundle": prediction.bundle,
        "answer": canonical(vars(prediction)),
        "key": answered.key,
        "trace_id": answered.trace_id,
        "input": signer.text(row) if row is not None else _address_of(answered, addresses),
        "row": row if keep_row else None,
        "width": width,
        "height": height,
        "patient": answered.patient,
        "slices": _slices_of(answered, addresses) if answered.slices else None,
    }
    content = {name: values[name] for name in ("label", "abstained", "version", "bundle", "key", "trace_id", "input")}
    content["digest"] = digest_of(values)
    if row is not None:
        # So that a value missing later is known to be either not kept, expired, or removed by hand.
        content["kept"] = keep_row
    return Operation(kind=PREDICTION, ref=prediction.id, at=at, values=values, content=content)


def _address_of(answered: Answered, addresses: Sequence[str]) -> str:
    """Return the same address for the same input, regardless of the order of its slices."""
    return sha256_text(canonical(sorted(addresses))) if answered.slices else addresses[0]


def _slices_of(answered: Answered, addresses: Sequence[str]) -> str:
    return canonical([[address, *one.size] for one, address in zip(answered.slices, addresses, strict=True)])


def digest_of(values: Any) -> str:
    """Return the hash that binds a stored prediction to its entry; the row's values are bound through `input`."""
    names = ["id", "at", "kind", "answer", "key", "trace_id", "input", "width", "height"]
    # Predictions without a patient have the same digest as in older versions.
    names += [name for name in PATIENT_COLUMNS if values[name] is not None]
    return sha256_text(canonical([values[name] for name in names]))


def note_operation(kind: str, content: dict[str, Any]) -> Operation:
    """Return an entry on an event other than a prediction."""
    if kind not in NOTES:
        raise UnknownName("kind of journal entry", kind, NOTES)
    for name, value in content.items():
        if name not in NOTES[kind]:
            raise UnknownName("field of a journal entry", name, NOTES[kind], where=kind)
        if isinstance(value, str) and (len(value) > MAX_VALUE_CHARS or not value.isprintable()):
            raise UserError(
                f"{kind}.{name} is not a short printable text ({len(value)} characters).",
                f"Shorten it to {MAX_VALUE_CHARS} characters.",
            )
        if not isinstance(value, str | int | float | bool | None):
            raise UserError(f"{kind}.{name} is a {type(value).__name__}, not a single value.", "Use a string.")
    return Operation(kind=kind, ref=uuid.uuid4().hex, at=utc_now(), values={}, content=content)


def insert_operations(transaction: Transaction, operations: Sequence[Operation]) -> None:
    """Insert predictions and add the entries of all operations."""
    rows = [operation.values for operation in operations if operation.kind == PREDICTION]
    if rows:
        transaction.connection.execute(_INSERT_PREDICTIONS, rows)
    transaction.events += [operation.event() for operation in operations]


def stored_refs(connection: Connection, operations: Sequence[Operation]) -> set[str]:
    """Return the refs of operations that are already stored, because only the confirmation was lost."""
    refs = [operation.ref for operation in operations]
    columns = (tables.journal.c.ref, tables.predictions.c.id, tables.corrections.c.id)
    return {ref for column in columns for ref in connection.execute(select(column).where(column.in_(refs))).scalars()}


def stored_prediction(row: Any) -> StoredPrediction:
    """Return the prediction that a row describes."""
    answer = json.loads(row.answer)
    return StoredPrediction(
        prediction=Prediction(**{**answer, "conformal_set": tuple(answer["conformal_set"])}),
        at=row.at,
        kind=row.kind,
        key=row.key,
        trace_id=row.trace_id,
        input=row.input,
        row=json.loads(row.row) if row.row is not None else None,
        size=(row.width, row.height) if row.width is not None else None,
        patient=row.patient,
        slices=tuple(
            KeptSlice(input=address, size=(width, height)) for address, width, height in json.loads(row.slices or "[]")
        ),
    )
