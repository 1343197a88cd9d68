"""The tables; a test checks that the migrations create the same ones."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, MetaData, Table, Text

metadata = MetaData()

predictions = Table(
    "predictions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("at", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("label", Text),
    Column("abstained", Boolean, nullable=False),
    Column("version", Text, nullable=False),
    Column("bundle", Text, nullable=False),
    Column("answer", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("trace_id", Text, nullable=False),
    Column("input", Text, nullable=False),
    Column("row", Text),
    Column("width", Integer),
    Column("height", Integer),
    # Of a prediction for a patient: the keyed hash, and as JSON the address, width and height of every slice.
    Column("patient", Text),
    Column("slices", Text),
    Index("predictions_at", "at"),
    Index("predictions_input", "input"),
)
# The rows whose values have yet to expire, so that expiry need not scan the others. PostgreSQL's index comes from the
# migrations; naming it here would import SQLAlchemy's PostgreSQL dialect.
Index("predictions_kept", predictions.c.at, sqlite_where=predictions.c.row.is_not(None))

corrections = Table(
    "corrections",
    metadata,
    Column("id", Text, primary_key=True),
    Column("prediction_id", Text, ForeignKey("predictions.id"), nullable=False),
    Column("label", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("at", Text, nullable=False),
    Column("state", Text, nullable=False),
    Index("corrections_prediction", "prediction_id"),
    Index("corrections_state_at", "state", "at"),
)

reviews = Table(
    "reviews",
    metadata,
    Column("id", Text, primary_key=True),
    Column("correction_id", Text, ForeignKey("corrections.id"), nullable=False),
    Column("decision", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("at", Text, nullable=False),
    Index("reviews_correction", "correction_id"),
)

keys = Table(
    "keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("created", Text, nullable=False),
    Column("expires", Text),
    Column("revoked", Text),
)

journal = Table(
    "journal",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("at", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("ref", Text, nullable=False, unique=True),
    Column("content", Text, nullable=False),
    Column("previous", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Column("mac", Text, nullable=False),
)

# A single row: the newest entry, signed. Every writer locks it first, so it also orders the writers.
journal_head = Table(
    "journal_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), nullable=False),
    Column("hash", Text, nullable=False),
    Column("signature", Text, nullable=False),
)
FIRST_HEAD = {"id": 1, "seq": 0, "hash": "0" * 64, "signature": ""}
