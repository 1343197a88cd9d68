"""Read-only access to the stored predictions for another process, such as the shadow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, func, or_, select

from medloop.case import Row
from medloop.errors import UserError
from medloop.feedback.db import tables
from medloop.feedback.db.database import Database, database_url
from medloop.feedback.db.migrate import NEWEST, schema_version
from medloop.feedback.inputs import Inputs, inputs_of, open_inputs
from medloop.feedback.operations import stored_prediction
from medloop.feedback.records import StoredPrediction
from medloop.settings import FeedbackSettings
from medloop.times import utc_now

# A prediction gets its time before it is stored, so an older one could still arrive for this long.
SETTLED = timedelta(seconds=1)


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A position in the order of the predictions."""

    at: str
    id: str


BEGINNING = Mark(at="", id="")


class Reader:
    """The predictions of one bundle in order, and their inputs."""

    def __init__(self, settings: FeedbackSettings, *, root: Path) -> None:
        url = database_url(settings, root)
        self._database = Database(url, read_only=True)
        base = self._database.file or root / "feedback.db"
        self._inputs: Inputs = open_inputs(settings.inputs, root, base.with_suffix(".outbox"), days=settings.keep_days)
        with self._database.reading() as connection:
            found = schema_version(connection)
        if found != NEWEST:
            state = f"has schema version {found}" if found else "has no tables"
            raise UserError(f"The feedback database {state}; {NEWEST} is needed.", "Run `medloop db upgrade`.")

    def after(self, mark: Mark, *, bundle: str, limit: int) -> list[StoredPrediction]:
        """Return the next predictions, oldest first."""
        columns = tables.predictions.c
        query = select(tables.predictions).where(*_since(mark, bundle)).order_by(columns.at, columns.id).limit(limit)
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        return [stored_prediction(row) for row in rows]

    def count_after(self, mark: Mark, *, bundle: str) -> int:
        """Return how many predictions follow."""
        query = select(func.count()).select_from(tables.predictions).where(*_since(mark, bundle))
        with self._database.reading() as connection:
            return int(connection.execute(query).scalar_one())

    def back(self, count: int, *, bundle: str) -> Mark:
        """Return the position before the newest `count` predictions."""
        columns = tables.predictions.c
        query = (
            select(columns.at, columns.id)
            .where(*_since(BEGINNING, bundle))
            .order_by(columns.at.desc(), columns.id.desc())
            .offset(count)
            .limit(1)
        )
        with self._database.reading() as connection:
            row = connection.execute(query).one_or_none()
        return Mark(at=row.at, id=row.id) if row is not None else BEGINNING

    def inputs_of(self, stored: StoredPrediction) -> list[Row] | list[bytes] | None:
        """Return the row, the image or all slices of the patient, or None if some are not kept."""
        found: list[Row] | list[bytes] | None = inputs_of(stored, self._inputs)
        return found

    def corrected(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the labels that reviewers accepted for these predictions."""
        columns = tables.corrections.c
        query = (
            select(columns.prediction_id, columns.label)
            .where(columns.prediction_id.in_(ids), columns.state == "accepted")
            .order_by(columns.at)
        )
        with self._database.reading() as connection:
            return {row.prediction_id: row.label for row in connection.execute(query)}

    def close(self) -> None:
        """Close the connections."""
        self._database.close()


def settled() -> str:
    """Return the time before which no more predictions will arrive."""
    return utc_now(shift=-SETTLED)


def _since(mark: Mark, bundle: str) -> tuple[ColumnElement[Any], ...]:
    columns = tables.predictions.c
    later = or_(columns.at > mark.at, columns.id > mark.id)
    # The first two use the index on the time.
    return columns.at >= mark.at, columns.at < settled(), later, columns.bundle == bundle
