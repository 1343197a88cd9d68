"""From inputs to answers that were written down: what waits together is answered and stored together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from medloop.bundle.predictor import Predictor
from medloop.case import Row
from medloop.errors import RejectedInput
from medloop.feedback import Answered, Key
from medloop.serve.answers import Answer, answer_images, answer_rows
from medloop.serve.champion import Serving
from medloop.serve.engine import Engine
from medloop.serve.together import Outcomes, Together

if TYPE_CHECKING:
    from medloop.feedback.store import Feedback

# So few rows are answered sooner than handed to another thread.
FEW_ROWS = 16
# Beyond so many at once the model gains nothing, and whoever came first would wait for the others.
MOST_PICTURES, MOST_TABLES = 4, 32


@dataclass(frozen=True, kw_only=True)
class Asker:
    """Who sent a request, and the trace of it."""

    key: Key
    trace: str


@dataclass(frozen=True, kw_only=True)
class File:
    """A file to judge; a light one is decoded so soon that others need not mind to wait for it."""

    predictor: Predictor
    data: bytes
    asker: Asker
    is_light: bool


@dataclass(frozen=True, kw_only=True)
class Table:
    """The rows of one request, and where in it each stands."""

    predictor: Predictor
    rows: Sequence[Row]
    places: Sequence[str]
    asker: Asker


class Answering:
    """What the requests under way are answered with."""

    def __init__(self, engine: Engine, feedback: Feedback, *, keep: bool) -> None:
        self._engine, self._feedback, self._keep = engine, feedback, keep
        self._files = Together(
            self._answer_files, start=engine.start, joins=_go_together, threads=engine.threads, most=MOST_PICTURES
        )
        self._few = Together(self._answer_tables, start=_soon, joins=_are_alike, threads=1, most=MOST_TABLES)
        self._many = Together(self._answer_tables, start=engine.start, joins=_are_alike, threads=engine.threads, most=1)

    async def file(self, serving: Serving, data: bytes, asker: Asker, *, alone: bool) -> Answer:
        """The answer for a file, the only one of its request or one of many, once it is durable."""
        predictor = serving.for_request(alone=alone and self._engine.is_calm)
        is_light = predictor is serving.predictor and predictor.is_light(data)
        return await self._files.ask(File(predictor=predictor, data=data, asker=asker, is_light=is_light))

    async def rows(
        self, predictor: Predictor, rows: Sequence[Row], places: Sequence[str], asker: Asker
    ) -> list[Answer]:
        """One answer a row, in order, once they are durable, or an error that says where."""
        together = self._few if len(rows) <= FEW_ROWS else self._many
        return await together.ask(Table(predictor=predictor, rows=rows, places=places, asker=asker))

    def _answer_files(self, files: Sequence[File]) -> Outcomes[Answer]:
        answers = answer_images(files[0].predictor, [file.data for file in files], keep=self._keep)
        answered = [
            _answered(answer, file.asker, kind="image")
            for file, answer in zip(files, answers, strict=True)
            if isinstance(answer, Answer)
        ]
        return Outcomes(all=answers, durable=self._feedback.submit(answered, enough=self._engine.spare))

    def _answer_tables(self, tables: Sequence[Table]) -> Outcomes[list[Answer]]:
        answers = answer_rows(tables[0].predictor, [(table.rows, table.places) for table in tables])
        answered = [
            _answered(answer, table.asker, kind="table")
            for table, given in zip(tables, answers, strict=True)
            if not isinstance(given, RejectedInput)
            for answer in given
        ]
        # Rows keep no thread busy, so all that are under way may wait for one commit.
        return Outcomes(all=answers, durable=self._feedback.submit(answered, enough=self._engine.requests))


def _soon(work: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_soon(work)


def _go_together(one: File, other: File) -> bool:
    return one.is_light and other.is_light and one.predictor is other.predictor


def _are_alike(one: Table, other: Table) -> bool:
    return one.predictor is other.predictor


def _answered(answer: Answer, asker: Asker, *, kind: Literal["image", "table"]) -> Answered:
    return Answered(
        prediction=answer.prediction,
        kind=kind,
        key=asker.key.id,
        trace_id=asker.trace,
        input_sha256=answer.sha256,
        input_png=answer.png,
        row=answer.row,
        size=answer.size,
    )
