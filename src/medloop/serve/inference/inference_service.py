"""Predictions for files and rows, stored before they are returned; what waits together is processed together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeVar

from medloop.bundle.predictor import Predictor
from medloop.case import Row
from medloop.errors import RejectedInput
from medloop.feedback import Answered, Key
from medloop.registry.follow import LoadedModel
from medloop.serve.inference.batching import MicroBatcher
from medloop.serve.inference.engine import Engine
from medloop.serve.inference.predict import InferenceResult, predict_images, predict_rows

if TYPE_CHECKING:
    from medloop.feedback.store import Feedback

# Predicted on the event loop, since handing them to a thread would take longer.
MAX_ROWS_ON_LOOP = 16
# Larger batches do not speed up the model, and would make the first request wait for the others.
MAX_IMAGE_BATCH, MAX_ROW_REQUESTS = 4, 32

Result = TypeVar("Result")
# A result, and the commit that stores it.
Pending = tuple[Result, Future[None]]


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who sent a request, and its trace id."""

    key: Key
    trace: str


@dataclass(frozen=True, kw_only=True)
class ImageRequest:
    """An image file; a small one is decoded so quickly that others can wait for it."""

    predictor: Predictor
    data: bytes
    caller: Caller
    is_small: bool


@dataclass(frozen=True, kw_only=True)
class RowsRequest:
    """The rows of one request, and the place of each within it."""

    predictor: Predictor
    rows: Sequence[Row]
    places: Sequence[str]
    caller: Caller


class InferenceService:
    """Predicts for the requests in flight with as few batches and commits as possible."""

    def __init__(self, engine: Engine, feedback: Feedback, *, keep: bool) -> None:
        self._engine, self._feedback, self._keep = engine, feedback, keep
        self._images = MicroBatcher(
            self._process_images,
            schedule=engine.start,
            can_share=_can_share,
            workers=engine.threads,
            max_size=MAX_IMAGE_BATCH,
        )
        # All requests that arrive in one turn of the event loop are one batch.
        self._rows = MicroBatcher(
            self._process_rows, schedule=_call_soon, can_share=_same_model, workers=1, max_size=MAX_ROW_REQUESTS
        )

    async def predict_image(self, model: LoadedModel, data: bytes, caller: Caller, *, alone: bool) -> InferenceResult:
        """Return the result for a file, the only one of its request or one of many, once it is stored."""
        predictor = model.for_request(alone=alone and self._engine.has_one_request)
        is_small = predictor is model.predictor and predictor.is_light(data)
        request = ImageRequest(predictor=predictor, data=data, caller=caller, is_small=is_small)
        result, stored = await self._images.submit(request)
        await asyncio.wrap_future(stored)
        return result

    async def predict_rows(
        self, predictor: Predictor, rows: Sequence[Row], places: Sequence[str], caller: Caller
    ) -> list[InferenceResult]:
        """Return one result per row, in order, once they are stored, or raise an error that names the place."""
        request = RowsRequest(predictor=predictor, rows=rows, places=places, caller=caller)
        if len(rows) <= MAX_ROWS_ON_LOOP:
            results, stored = await self._rows.submit(request)
        else:
            outcome = await self._engine.run(lambda: self._process_rows([request])[0])
            if isinstance(outcome, Exception):
                raise outcome
            results, stored = outcome
        await asyncio.wrap_future(stored)
        return results

    def _process_images(self, requests: Sequence[ImageRequest]) -> list[Pending[InferenceResult] | Exception]:
        results = predict_images(requests[0].predictor, [request.data for request in requests], keep=self._keep)
        answered = [
            _to_store(result, request.caller, kind="image")
            for request, result in zip(requests, results, strict=True)
            if isinstance(result, InferenceResult)
        ]
        stored = self._feedback.submit(answered, enough=self._engine.surplus)
        # The image has been handed over, and may be large.
        return [
            result if isinstance(result, RejectedInput) else (replace(result, png=None), stored) for result in results
        ]

    def _process_rows(self, requests: Sequence[RowsRequest]) -> list[Pending[list[InferenceResult]] | Exception]:
        tables = predict_rows(requests[0].predictor, [(request.rows, request.places) for request in requests])
        answered = [
            _to_store(result, request.caller, kind="table")
            for request, results in zip(requests, tables, strict=True)
            if not isinstance(results, RejectedInput)
            for result in results
        ]
        # Rows keep no thread busy, so all requests in flight may wait for one commit.
        stored = self._feedback.submit(answered, enough=self._engine.requests)
        return [results if isinstance(results, RejectedInput) else (results, stored) for results in tables]


def _call_soon(function: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_soon(function)


def _can_share(first: ImageRequest, second: ImageRequest) -> bool:
    return first.is_small and second.is_small and first.predictor is second.predictor


def _same_model(first: RowsRequest, second: RowsRequest) -> bool:
    return first.predictor is second.predictor


def _to_store(result: InferenceResult, caller: Caller, *, kind: Literal["image", "table"]) -> Answered:
    return Answered(
        prediction=result.prediction,
        kind=kind,
        key=caller.key.id,
        trace_id=caller.trace,
        input_sha256=result.sha256,
        input_png=result.png,
        row=result.row,
        size=result.size,
    )
