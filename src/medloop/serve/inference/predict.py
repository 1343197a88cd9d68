"""Predictions for files and rows, with what is stored about each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

from medloop.bundle.inputs import Picture, keepable_png
from medloop.bundle.predictor import Predictor
from medloop.case import Prediction, Row
from medloop.errors import RejectedInput
from medloop.storage import sha256_bytes


@dataclass(frozen=True, kw_only=True)
class InferenceResult:
    """A prediction, its input as it is stored, the seconds that each step took, and when it was ready to be stored.

    The hash of an image that is kept is computed where it is stored.
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
class _Decoded:
    picture: Picture
    png: bytes | None
    size: tuple[int, int]
    seconds: float


def predict_images(
    predictor: Predictor, files: Sequence[bytes], *, keep: bool
) -> list[InferenceResult | RejectedInput]:
    """Return one result per file, or why there is none; the model processes all of them as one batch."""
    decoded = [_decode(predictor, data, keep=keep) for data in files]
    started = time.perf_counter()
    pictures = [one.picture for one in decoded if isinstance(one, _Decoded)]
    predictions = iter(predictor.predict(pictures) if pictures else ())
    ready = time.perf_counter()
    each = (ready - started) / max(1, len(pictures))
    return [
        one
        if isinstance(one, RejectedInput)
        else InferenceResult(
            prediction=replace(next(predictions), latency_ms=(one.seconds + each) * 1000),
            png=one.png,
            sha256=sha256_bytes(data) if one.png is None else "",
            size=one.size,
            decode_seconds=one.seconds,
            infer_seconds=each,
            ready=ready,
        )
        for one, data in zip(decoded, files, strict=True)
    ]


def predict_rows(
    predictor: Predictor, tables: Sequence[tuple[Sequence[Row], Sequence[str]]]
) -> list[list[InferenceResult] | RejectedInput]:
    """Return the results for the rows of each request, or an error that names the place of a row that is wrong."""
    rows = list(chain.from_iterable(given for given, _ in tables))
    started = time.perf_counter()
    try:
        for given, places in tables:
            _check_values(predictor, given, places)
        predictions = iter(predictor.predict(rows))
    except RejectedInput as error:
        if len(tables) == 1:
            return [_first_error(predictor, *tables[0]) or error]
        return [predict_rows(predictor, [table])[0] for table in tables]
    ready = time.perf_counter()
    each = (ready - started) / len(rows)
    return [
        [InferenceResult(prediction=next(predictions), row=row, infer_seconds=each, ready=ready) for row in given]
        for given, _ in tables
    ]


def _decode(predictor: Predictor, data: bytes, *, keep: bool) -> _Decoded | RejectedInput:
    """Return the file at the model's size; the image at its own size may be large, and is not held."""
    started = time.perf_counter()
    try:
        decoded = predictor.decode(data)
    except RejectedInput as error:
        return error
    picture = predictor.fit(decoded)
    seconds = time.perf_counter() - started
    png = keepable_png(data, decoded) if keep else None
    return _Decoded(picture=picture, png=png, size=(decoded.width, decoded.height), seconds=seconds)


def _check_values(predictor: Predictor, rows: Sequence[Row], places: Sequence[str]) -> None:
    """Refuse text in a numeric column, which CSV has but JSON need not, and text that is not plain."""
    numbers = [column.name for column in predictor.preparer.columns if column.kind == "number"]
    for where, row in zip(places, rows, strict=True):
        if texts := [name for name in numbers if isinstance(row.get(name), str)]:
            raise RejectedInput(f"{where}: '{texts[0]}' is text, not a number.", "Send a number or null.")
        try:
            predictor.preparer.check_texts(row)
        except RejectedInput as error:
            raise RejectedInput(f"{where}: {error.problem}", error.hint) from None


def _first_error(predictor: Predictor, rows: Sequence[Row], places: Sequence[str]) -> RejectedInput | None:
    """Return the error of the first row that has one, with its place in front."""
    for where, row in zip(places, rows, strict=True):
        try:
            _check_values(predictor, [row], [where])
        except RejectedInput as error:
            return error
        try:
            predictor.preparer.prepare([row])
        except RejectedInput as error:
            return RejectedInput(f"{where}: {error.problem}", error.hint)
    return None
