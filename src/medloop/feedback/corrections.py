"""Corrections of predictions, and their reviews by other people."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, insert, or_, select, update

from medloop.case import Correction, same_person
from medloop.errors import UnknownName
from medloop.feedback.db import tables
from medloop.feedback.journal.chain import Event, Signer, canonical, sha256_text
from medloop.feedback.journal.transactions import Transaction
from medloop.feedback.operations import CORRECTION, Operation
from medloop.feedback.records import DECISIONS, STATES, Conflict, Decision, NotFound, check_text, describe_id
from medloop.times import utc_now

MAX_REASON_CHARS = 1000
MAX_NAME_CHARS = 200
REVIEW = "review"


def new_correction(
    prediction_id: str, label: str, reason: str, who: str, *, idempotency: str | None, signer: Signer
) -> Operation:
    """Return a correction to write; the same idempotency key of the same person results in the same id."""
    check_text(label, what="the label", max_chars=MAX_NAME_CHARS)
    check_text(reason, what="the reason", max_chars=MAX_REASON_CHARS, lines=True)
    check_text(who, what="the name of the corrector", max_chars=MAX_NAME_CHARS)
    if idempotency is None:
        name = uuid.uuid4().hex
    else:
        check_text(idempotency, what="the idempotency key", max_chars=MAX_NAME_CHARS)
        name = sha256_text(canonical([who, idempotency]))[:32]
    values = {
        "id": name,
        "prediction_id": prediction_id,
        "label": label,
        "reason": reason,
        "who": who,
        "at": utc_now(),
        "state": "pending",
    }
    # The reason may name a patient, so the journal holds its keyed hash and not its text.
    content = {"prediction": prediction_id, "label": label, "who": who, "reason": signer.text(reason)}
    return Operation(kind=CORRECTION, ref=name, at=str(values["at"]), values=values, content=content)


def add_correction(transaction: Transaction, operation: Operation) -> Correction:
    """Store a correction once; refuse an unknown prediction and an unknown class."""
    values, connection = operation.values, transaction.connection
    known = connection.execute(select(tables.corrections).where(tables.corrections.c.id == values["id"])).one_or_none()
    if known is not None:
        if any(getattr(known, name) != values[name] for name in ("prediction_id", "label", "reason")):
            raise Conflict(
                "This idempotency key was already used for another correction.", "Send a new key with a new correction."
            )
        return _correction(known)
    predictions = tables.predictions.c
    answer = connection.execute(select(predictions.answer).where(predictions.id == values["prediction_id"])).scalar()
    if answer is None:
        raise NotFound(f"No prediction with {describe_id(values['prediction_id'])}.", "Check the id.")
    classes = json.loads(answer)["probabilities"]
    if values["label"] not in classes:
        raise UnknownName("label", values["label"], classes)
    connection.execute(insert(tables.corrections), values)
    transaction.events.append(operation.event())
    return correction_from(values)


def correction_from(values: Any) -> Correction:
    """Return the correction that a row's values describe."""
    return Correction(
        id=values["id"],
        prediction_id=values["prediction_id"],
        label=values["label"],
        reason=values["reason"],
        who=values["who"],
        when=values["at"],
        state=values["state"],
    )


def _correction(row: Row[Any]) -> Correction:
    return correction_from(row._mapping)


def list_corrections(connection: Connection, *, state: str | None, limit: int, after: str | None) -> list[Correction]:
    """Return corrections, oldest first, optionally only those after a given one."""
    columns = tables.corrections.c
    query = select(tables.corrections).order_by(columns.at, columns.id).limit(limit)
    if state is not None:
        if state not in STATES:
            raise UnknownName("correction state", state, STATES)
        query = query.where(columns.state == state)
    if after is not None:
        last = find_correction(connection, after)
        query = query.where(or_(columns.at > last.at, (columns.at == last.at) & (columns.id > last.id)))
    return [_correction(row) for row in connection.execute(query)]


def find_correction(connection: Connection, correction_id: str) -> Row[Any]:
    """Return the row of a correction."""
    query = select(tables.corrections).where(tables.corrections.c.id == correction_id)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound(f"No correction with {describe_id(correction_id)}.", "Check the id.")
    return row


def add_review(
    transaction: Transaction, correction_id: str, decision: Decision, who: str, reason: str, *, signer: Signer
) -> Correction:
    """Decide on a correction; the reviewer is neither its author nor an earlier reviewer."""
    if decision not in DECISIONS:
        raise UnknownName("decision", decision, DECISIONS)
    check_text(who, what="the name of the reviewer", max_chars=MAX_NAME_CHARS)
    if reason:
        check_text(reason, what="the reason", max_chars=MAX_REASON_CHARS, lines=True)
    connection = transaction.connection
    row = find_correction(connection, correction_id)
    _check_may_review(connection, row, who)
    review = {"id": uuid.uuid4().hex, "correction_id": row.id, "who": who, "reason": reason, "at": utc_now()}
    connection.execute(insert(tables.reviews), {**review, "decision": decision})
    states = _states_after(connection, row, decision)
    for changed, state in states.items():
        connection.execute(update(tables.corrections).where(tables.corrections.c.id == changed).values(state=state))
    content = {"correction": row.id, "decision": decision, "who": who, "states": states, "reason": signer.text(reason)}
    transaction.events.append(Event(kind=REVIEW, ref=review["id"], at=review["at"], content=content))
    return _correction(find_correction(connection, row.id))


def _check_may_review(connection: Connection, row: Row[Any], who: str) -> None:
    if row.state not in ("pending", "second_reader"):
        raise Conflict(f"This correction is already {row.state}.", "Submit a new correction.")
    query = select(tables.reviews.c.who).where(tables.reviews.c.correction_id == row.id)
    before = connection.execute(query).scalars().all()
    if any(same_person(who, one) for one in (row.who, *before)):
        role = "made this correction" if same_person(who, row.who) else "have already reviewed this correction"
        raise Conflict(f"You {role}, so somebody else has to review it.", "Ask a colleague.")


def _states_after(connection: Connection, row: Row[Any], decision: Decision) -> dict[str, str]:
    """Return the new state of this correction, and of contradicting ones on the same input."""
    if decision != "accepted":
        return {row.id: decision}
    others = _contradicting(connection, row)
    if not others:
        return {row.id: decision}
    if row.state == "second_reader":
        # The second reader has seen both and chosen this one.
        return {row.id: "accepted", **{one.id: "rejected" for one in others}}
    return {row.id: "second_reader", **{one.id: "second_reader" for one in others}}


def _contradicting(connection: Connection, row: Row[Any]) -> Sequence[Row[Any]]:
    """Return accepted or pending-second-reader corrections that give the same input another label."""
    corrections, predictions = tables.corrections.c, tables.predictions.c
    address = connection.execute(select(predictions.input).where(predictions.id == row.prediction_id)).scalar()
    same = corrections.prediction_id == row.prediction_id
    if address:
        same = or_(same, predictions.input == address)
    query = (
        select(tables.corrections)
        .join(tables.predictions, predictions.id == corrections.prediction_id)
        .where(same, corrections.label != row.label, corrections.id != row.id)
        .where(corrections.state.in_(["accepted", "second_reader"]))
    )
    return connection.execute(query).all()
