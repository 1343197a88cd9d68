"""Inputs to answers, with what the records need of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

from medloop.bundle.inputs import Picture
from medloop.bundle.kept_input import keepable_png
from medloop.bundle.predictor import Predictor
from medloop.case import Prediction, Row
from medloop.errors import RejectedInput
from medloop.storage import sha256_bytes


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A prediction, what it was made of, how long the steps took, and when it was ready to be stored.

    A file that is kept gets its hash there.
    """

    prediction: Prediction
    png: bytes | None = None
    sha256: str = ""
    row: Row | None = None
    size: tuple[int, int] | None = None
    decode_seconds: float = 0.0
    infer_seconds: float = 0.0
    ready: float = 0.0


@dataclass(frozen=True, kw_only=True)
class _Seen:
    picture: Picture
    png: bytes | None
    size: tuple[int, int]
    seconds: float


def answer_images(predictor: Predictor, files: Sequence[bytes], *, keep: bool) -> list[Answer | RejectedInput]:
    """One answer a file, or why there is none; the model sees all of them at once."""
    seen = [_see(predictor, data, keep=keep) for data in files]
    started = time.perf_counter()
    pictures = [one.picture for one in seen if isinstance(one, _Seen)]
    predictions = iter(predictor.predict(pictures) if pictures else ())
    ready = time.perf_counter()
    each = (ready - started) / max(1, len(pictures))
    return [
        one
        if isinstance(one, RejectedInput)
        else Answer(
            prediction=replace(next(predictions), latency_ms=(one.seconds + each) * 1000),
            png=one.png,
            sha256=sha256_bytes(data) if one.png is None else "",
            size=one.size,
            decode_seconds=one.seconds,
            infer_seconds=each,
            ready=ready,
        )
        for one, data in zip(seen, files, strict=True)
    ]


def answer_rows(
    predictor: Predictor, tables: Sequence[tuple[Sequence[Row], Sequence[str]]]
) -> list[list[Answer] | RejectedInput]:
    """For the rows of each request their answers, or an error that says which of its places is wrong."""
    rows = list(chain.from_iterable(given for given, _ in tables))
    started = time.perf_counter()
    try:
        for given, places in tables:
            _check_values(predictor, given, places)
        predictions = iter(predictor.predict(rows))
    except RejectedInput as error:
        if len(tables) == 1:
            return [_placed(predictor, *tables[0]) or error]
        return [answer_rows(predictor, [table])[0] for table in tables]
    ready = time.perf_counter()
    each = (ready - started) / len(rows)
    return [
        [Answer(prediction=next(predictions), row=row, infer_seconds=each, ready=ready) for row in given]
        for given, _ in tables
    ]


def _see(predictor: Predictor, data: bytes, *, keep: bool) -> _Seen | RejectedInput:
    """What is needed of a file; the picture in its own size is let go, since it may be large."""
    started = time.perf_counter()
    try:
        decoded = predictor.decode(data)
    except RejectedInput as error:
        return error
    picture = predictor.fit(decoded)
    seconds = time.perf_counter() - started
    png = keepable_png(data, decoded) if keep else None
    return _Seen(picture=picture, png=png, size=(decoded.width, decoded.height), seconds=seconds)


def _check_values(predictor: Predictor, rows: Sequence[Row], places: Sequence[str]) -> None:
    """A number is no text in JSON, as it is in CSV, and a text is a plain one."""
    numbers = [column.name for column in predictor.preparer.columns if column.kind == "number"]
    for where, row in zip(places, rows, strict=True):
        if texts := [name for name in numbers if isinstance(row.get(name), str)]:
            raise RejectedInput(
                f"{where}: '{texts[0]}' must be a number", found="a text", hint="send a number, or null"
            )
        try:
            predictor.preparer.check_texts(row)
        except RejectedInput as error:
            raise RejectedInput(f"{where}: {error.must}", found=error.found, hint=error.hint) from None


def _placed(predictor: Predictor, rows: Sequence[Row], places: Sequence[str]) -> RejectedInput | None:
    """What is wrong with the first wrong row, with its place in front."""
    for where, row in zip(places, rows, strict=True):
        try:
            _check_values(predictor, [row], [where])
        except RejectedInput as error:
            return error
        try:
            predictor.preparer.prepare([row])
        except RejectedInput as error:
            return RejectedInput(f"{where}: {error.must}", found=error.found, hint=error.hint)
    return None
