"""What waits to be written: an answer, a correction or a note, in a form that also fits into a line of the spool."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, insert, select

from medloop.case import Prediction
from medloop.errors import UnknownName, UserError
from medloop.feedback import tables
from medloop.feedback.chain import Event, Signer, canonical, sha256_text
from medloop.feedback.records import Answered, KeptSlice, StoredPrediction, now
from medloop.feedback.transactions import Transaction

PREDICTION, CORRECTION = "prediction", "correction"
OF_PATIENTS = ("patient", "slices")
LONGEST_VALUE = 200
_INSERT = insert(tables.predictions)

# What the journal says of what happens around the answers. The fields are listed, so that no patient can slip in.
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
    """One thing to write, and what the journal says of it."""

    kind: str
    ref: str
    at: str
    values: dict[str, Any]
    content: dict[str, Any]

    def event(self) -> Event:
        """The journal's entry."""
        return Event(kind=self.kind, ref=self.ref, at=self.at, content=self.content)

    def to_line(self) -> str:
        """As a line of the spool."""
        return canonical(vars(self))

    @classmethod
    def from_line(cls, line: str) -> Operation:
        """From a line of the spool, perhaps of a medloop that knew of no patients."""
        operation = cls(**json.loads(line))
        if operation.kind != PREDICTION:
            return operation
        return replace(operation, values={**dict.fromkeys(OF_PATIENTS), **operation.values})


def operation_of(answered: Answered, *, addresses: Sequence[str], keep_row: bool, signer: Signer) -> Operation:
    """The answer as a row, and the entry that binds the row; an address for the input, or one for each slice."""
    prediction = answered.prediction
    row = canonical(answered.row) if answered.row is not None else None
    width, height = answered.size or (None, None)
    at = now()
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
        # So that a value that is missing later was either never kept, or has expired, or was taken out.
        content["kept"] = keep_row
    return Operation(kind=PREDICTION, ref=prediction.id, at=at, values=values, content=content)


def _address_of(answered: Answered, addresses: Sequence[str]) -> str:
    """The same for the same input, whatever the order of its slices."""
    return sha256_text(canonical(sorted(addresses))) if answered.slices else addresses[0]


def _slices_of(answered: Answered, addresses: Sequence[str]) -> str:
    return canonical([[address, *one.size] for one, address in zip(answered.slices, addresses, strict=True)])


def digest_of(values: Any) -> str:
    """The hash that binds a stored answer to its entry; the row's values are bound through `input`."""
    names = ["id", "at", "kind", "answer", "key", "trace_id", "input", "width", "height"]
    # Answers for no patient are bound as they were before there were any.
    names += [name for name in OF_PATIENTS if values[name] is not None]
    return sha256_text(canonical([values[name] for name in names]))


def note_of(kind: str, content: dict[str, Any]) -> Operation:
    """An entry about something other than an answer."""
    if kind not in NOTES:
        raise UnknownName("the kind of an entry", kind, NOTES)
    for name, value in content.items():
        if name not in NOTES[kind]:
            raise UnknownName("a field of an entry", name, NOTES[kind], where=kind)
        if isinstance(value, str) and (len(value) > LONGEST_VALUE or not value.isprintable()):
            raise UserError(
                f"{kind}.{name} must be a short plain text", found=f"{len(value)} letters", hint="shorten it"
            )
        if not isinstance(value, str | int | float | bool | None):
            raise UserError(f"{kind}.{name} must be one value", found=type(value).__name__, hint="give a text")
    return Operation(kind=kind, ref=uuid.uuid4().hex, at=now(), values={}, content=content)


def insert_all(transaction: Transaction, operations: Sequence[Operation]) -> None:
    """Write answers and notes."""
    rows = [operation.values for operation in operations if operation.kind == PREDICTION]
    if rows:
        transaction.connection.execute(_INSERT, rows)
    transaction.events += [operation.event() for operation in operations]


def refs_stored(connection: Connection, operations: Sequence[Operation]) -> set[str]:
    """Which of these are written already, because only the word of it was lost."""
    refs = [operation.ref for operation in operations]
    columns = (tables.journal.c.ref, tables.predictions.c.id, tables.corrections.c.id)
    return {ref for column in columns for ref in connection.execute(select(column).where(column.in_(refs))).scalars()}


def stored_prediction(row: Any) -> StoredPrediction:
    """A row as those outside know it."""
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
