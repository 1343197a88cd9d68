"""Inputs go after their time, and the journal says so, for a value that is missing otherwise was taken out by hand."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import update

from medloop.feedback import tables
from medloop.feedback.chain import Event
from medloop.feedback.faults import explained
from medloop.feedback.inputs import Inputs
from medloop.feedback.records import now
from medloop.feedback.transactions import Transactions

EXPIRY = "expiry"


def expire(transactions: Transactions, inputs: Inputs) -> int:
    """Remove the values of old rows from the database and old pictures from their place; how many those were."""
    before = (datetime.now(UTC) - timedelta(days=inputs.days)).isoformat(timespec="microseconds")
    columns = tables.predictions.c
    with explained(), transactions.writing() as transaction:
        query = update(tables.predictions).where(columns.at < before, columns.row.is_not(None)).values(row=None)
        rows = transaction.connection.execute(query).rowcount
        if rows:
            transaction.events.append(_event({"before": before, "rows": rows}))
    pictures = inputs.expire()
    if pictures:
        with explained(), transactions.writing() as transaction:
            transaction.events.append(_event({"before": before, "pictures": pictures}))
    return rows + pictures


def _event(content: dict[str, Any]) -> Event:
    return Event(kind=EXPIRY, ref=secrets.token_hex(16), at=now(), content=content)
