"""A look at the stored answers by a process that writes nothing: no spool, no chain, no tables are touched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, func, or_, select

from medloop.case import Row
from medloop.errors import UserError
from medloop.feedback import tables
from medloop.feedback.database import Database, database_url
from medloop.feedback.inputs import Inputs, inputs_of, open_inputs
from medloop.feedback.migrate import NEWEST, form_of
from medloop.feedback.operations import stored_prediction
from medloop.feedback.records import StoredPrediction
from medloop.settings import FeedbackSettings

# An answer gets its time before it is stored, so one that is older could still come.
SETTLED = timedelta(seconds=1)


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A place in the order of the answers."""

    at: str
    id: str


BEGINNING = Mark(at="", id="")


class Reader:
    """The answers of one bundle in order, and what they were given for."""

    def __init__(self, settings: FeedbackSettings, *, root: Path) -> None:
        url = database_url(settings, root)
        self._database = Database(url, read_only=True)
        beside = self._database.file or root / "feedback.db"
        self._inputs: Inputs = open_inputs(
            settings.inputs, root, beside.with_suffix(".outbox"), days=settings.keep_days
        )
        with self._database.reading() as connection:
            found = form_of(connection)
        if found != NEWEST:
            raise UserError(
                f"the feedback database must be of form {NEWEST}",
                found=found or "no tables",
                hint="run `medloop db upgrade`",
            )

    def after(self, mark: Mark, *, bundle: str, limit: int) -> list[StoredPrediction]:
        """The answers that came next, oldest first."""
        columns = tables.predictions.c
        query = select(tables.predictions).where(*_since(mark, bundle)).order_by(columns.at, columns.id).limit(limit)
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        return [stored_prediction(row) for row in rows]

    def count_after(self, mark: Mark, *, bundle: str) -> int:
        """How many have come since."""
        query = select(func.count()).select_from(tables.predictions).where(*_since(mark, bundle))
        with self._database.reading() as connection:
            return int(connection.execute(query).scalar_one())

    def back(self, count: int, *, bundle: str) -> Mark:
        """The place after which the newest so many answers come."""
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
        """The row, the picture or all slices of the patient; None where some of it is not kept."""
        found: list[Row] | list[bytes] | None = inputs_of(stored, self._inputs)
        return found

    def corrected(self, ids: Sequence[str]) -> dict[str, str]:
        """The labels that reviewers accepted for these answers."""
        columns = tables.corrections.c
        query = (
            select(columns.prediction_id, columns.label)
            .where(columns.prediction_id.in_(ids), columns.state == "accepted")
            .order_by(columns.at)
        )
        with self._database.reading() as connection:
            return {row.prediction_id: row.label for row in connection.execute(query)}

    def close(self) -> None:
        """Give up the connections."""
        self._database.close()


def settled() -> str:
    """Before this time no more answers are to be expected."""
    return (datetime.now(UTC) - SETTLED).isoformat(timespec="microseconds")


def _since(mark: Mark, bundle: str) -> tuple[ColumnElement[Any], ...]:
    columns = tables.predictions.c
    later = or_(columns.at > mark.at, columns.id > mark.id)
    # The first two are what the index on the time can answer.
    return columns.at >= mark.at, columns.at < settled(), later, columns.bundle == bundle
