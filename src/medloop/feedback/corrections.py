"""Corrections and their reviews: who says what of which answer, and who else has looked at it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, insert, or_, select, update

from medloop.case import Correction, same_person
from medloop.errors import UnknownName
from medloop.feedback import tables
from medloop.feedback.chain import Event, Signer, canonical, sha256_text
from medloop.feedback.operations import CORRECTION, Operation
from medloop.feedback.records import DECISIONS, STATES, Conflict, Decision, NotFound, now
from medloop.feedback.texts import check_text
from medloop.feedback.transactions import Transaction

LONGEST_REASON = 1000
LONGEST_NAME = 200
REVIEW = "review"


def correction_of(
    prediction_id: str, label: str, reason: str, who: str, *, idempotency: str | None, signer: Signer
) -> Operation:
    """A correction to write; the same key of the same person gives the same one."""
    check_text(label, what="the label", longest=LONGEST_NAME)
    check_text(reason, what="the reason", longest=LONGEST_REASON, lines=True)
    check_text(who, what="the name of who corrects", longest=LONGEST_NAME)
    if idempotency is None:
        name = uuid.uuid4().hex
    else:
        check_text(idempotency, what="the idempotency key", longest=LONGEST_NAME)
        name = sha256_text(canonical([who, idempotency]))[:32]
    values = {
        "id": name,
        "prediction_id": prediction_id,
        "label": label,
        "reason": reason,
        "who": who,
        "at": now(),
        "state": "pending",
    }
    # The reason may name a patient, so the journal holds what binds it and not its words.
    content = {"prediction": prediction_id, "label": label, "who": who, "reason": signer.text(reason)}
    return Operation(kind=CORRECTION, ref=name, at=str(values["at"]), values=values, content=content)


def add_correction(transaction: Transaction, operation: Operation) -> Correction:
    """Store a correction, once; refuses an unknown answer and an unknown class."""
    values, connection = operation.values, transaction.connection
    known = connection.execute(select(tables.corrections).where(tables.corrections.c.id == values["id"])).one_or_none()
    if known is not None:
        if any(getattr(known, name) != values[name] for name in ("prediction_id", "label", "reason")):
            raise Conflict(
                "an idempotency key must stand for one correction",
                found="another one under this key",
                hint="send a new key with a new correction",
            )
        return _correction(known)
    predictions = tables.predictions.c
    answer = connection.execute(select(predictions.answer).where(predictions.id == values["prediction_id"])).scalar()
    if answer is None:
        raise NotFound("a correction must name a stored prediction", found="none of this id", hint="check the id")
    classes = json.loads(answer)["probabilities"]
    if values["label"] not in classes:
        raise UnknownName("the label", values["label"], classes)
    connection.execute(insert(tables.corrections), values)
    transaction.events.append(operation.event())
    return correction_from(values)


def correction_from(values: Any) -> Correction:
    """The values of a row as those outside know them."""
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
    """Corrections, oldest first, from after one of them on."""
    columns = tables.corrections.c
    query = select(tables.corrections).order_by(columns.at, columns.id).limit(limit)
    if state is not None:
        if state not in STATES:
            raise UnknownName("a state", state, STATES)
        query = query.where(columns.state == state)
    if after is not None:
        last = find_correction(connection, after)
        query = query.where(or_(columns.at > last.at, (columns.at == last.at) & (columns.id > last.id)))
    return [_correction(row) for row in connection.execute(query)]


def find_correction(connection: Connection, correction_id: str) -> Row[Any]:
    """The row of a correction."""
    query = select(tables.corrections).where(tables.corrections.c.id == correction_id)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound("a correction must be stored", found="none of this id", hint="check the id")
    return row


def add_review(
    transaction: Transaction, correction_id: str, decision: Decision, who: str, reason: str, *, signer: Signer
) -> Correction:
    """Decide on a correction; another person than the one who made it, and than those who decided on it before."""
    if decision not in DECISIONS:
        raise UnknownName("a decision", decision, DECISIONS)
    check_text(who, what="the name of who reviews", longest=LONGEST_NAME)
    if reason:
        check_text(reason, what="the reason", longest=LONGEST_REASON, lines=True)
    connection = transaction.connection
    row = find_correction(connection, correction_id)
    _check_may_review(connection, row, who)
    review = {"id": uuid.uuid4().hex, "correction_id": row.id, "who": who, "reason": reason, "at": now()}
    connection.execute(insert(tables.reviews), {**review, "decision": decision})
    states = _states_after(connection, row, decision)
    for changed, state in states.items():
        connection.execute(update(tables.corrections).where(tables.corrections.c.id == changed).values(state=state))
    content = {"correction": row.id, "decision": decision, "who": who, "states": states, "reason": signer.text(reason)}
    transaction.events.append(Event(kind=REVIEW, ref=review["id"], at=review["at"], content=content))
    return _correction(find_correction(connection, row.id))


def _check_may_review(connection: Connection, row: Row[Any], who: str) -> None:
    if row.state not in ("pending", "second_reader"):
        raise Conflict("a correction is decided once", found=f"it is {row.state}", hint="make a new correction")
    query = select(tables.reviews.c.who).where(tables.reviews.c.correction_id == row.id)
    before = connection.execute(query).scalars().all()
    if any(same_person(who, one) for one in (row.who, *before)):
        raise Conflict(
            "a correction must be reviewed by another person",
            found="one who made it" if same_person(who, row.who) else "one who has reviewed it already",
            hint="ask a colleague",
        )


def _states_after(connection: Connection, row: Row[Any], decision: Decision) -> dict[str, str]:
    """What becomes of this correction, and of those of the same input that say otherwise."""
    if decision != "accepted":
        return {row.id: decision}
    others = _contradicting(connection, row)
    if not others:
        return {row.id: decision}
    if row.state == "second_reader":
        # The second reader has seen both and chosen.
        return {row.id: "accepted", **{one.id: "rejected" for one in others}}
    return {row.id: "second_reader", **{one.id: "second_reader" for one in others}}


def _contradicting(connection: Connection, row: Row[Any]) -> Sequence[Row[Any]]:
    """Corrections that were accepted, or would have been, and give the same input another label."""
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
