"""One input to one answer, with what the records need of it; runs on a worker thread."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from medloop.bundle.kept_input import keepable_png
from medloop.bundle.predictor import Predictor
from medloop.case import Prediction, Row
from medloop.errors import RejectedInput


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A prediction, what it was made of, and how long the steps took."""

    prediction: Prediction
    sha256: str
    png: bytes | None = None
    row: Row | None = None
    size: tuple[int, int] | None = None
    decode_seconds: float = 0.0
    infer_seconds: float = 0.0


def answer_image(predictor: Predictor, data: bytes, *, keep: bool) -> Answer:
    """The answer for one file."""
    started = time.perf_counter()
    decoded = predictor.decode(data)
    between = time.perf_counter()
    (prediction,) = predictor.predict([decoded])
    ended = time.perf_counter()
    return Answer(
        prediction=replace(prediction, latency_ms=(ended - started) * 1000),
        sha256=hashlib.sha256(data).hexdigest(),
        png=keepable_png(data, decoded) if keep else None,
        size=(decoded.width, decoded.height),
        decode_seconds=between - started,
        infer_seconds=ended - between,
    )


def answer_rows(predictor: Predictor, rows: Sequence[Row], places: Sequence[str]) -> list[Answer]:
    """The answers, or an error that says where; a number is no text in JSON, as it is in CSV."""
    numbers = [column.name for column in predictor.preparer.columns if column.kind == "number"]
    for where, row in zip(places, rows, strict=True):
        if texts := [name for name in numbers if isinstance(row.get(name), str)]:
            raise RejectedInput(
                f"{where}: '{texts[0]}' must be a number", found="a text", hint="send a number, or null"
            )
    started = time.perf_counter()
    try:
        predictions = predictor.predict(rows)
    except RejectedInput:
        for where, row in zip(places, rows, strict=True):
            _check(predictor, row, where)
        raise
    each = (time.perf_counter() - started) / len(rows)
    return [
        Answer(prediction=prediction, sha256=_digest(row), row=row, infer_seconds=each)
        for prediction, row in zip(predictions, rows, strict=True)
    ]


def _check(predictor: Predictor, row: Row, where: str) -> None:
    try:
        predictor.preparer.prepare([row])
    except RejectedInput as error:
        raise RejectedInput(f"{where}: {error.must}", found=error.found, hint=error.hint) from error


def _digest(row: Row) -> str:
    return hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()
