"""Micro-batching: requests that wait at the same time are processed together."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Request = TypeVar("Request")
Result = TypeVar("Result")


class MicroBatcher(Generic[Request, Result]):
    """Processes requests that wait at the same time as one batch; one that fails does not fail the others."""

    def __init__(
        self,
        process: Callable[[Sequence[Request]], Sequence[Result | Exception]],
        *,
        schedule: Callable[[Callable[[], None]], object],
        can_share: Callable[[Request, Request], bool],
        workers: int,
        max_size: int,
    ) -> None:
        """`schedule` runs a function soon, on one of so many `workers`; `can_share` allows two requests one batch."""
        self._process, self._schedule, self._can_share = process, schedule, can_share
        self._workers, self._max_size = workers, max_size
        self._waiting: deque[tuple[Request, asyncio.Future[Result]]] = deque()
        self._lock = threading.Lock()

    async def submit(self, request: Request) -> Result:
        """Return the result of a request, or raise its error."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, future))
        # One run for each request; those that find the queue empty do nothing.
        self._schedule(self._run)
        return await future

    def _run(self) -> None:
        if batch := self._next_batch():
            results = self._results([request for request, _ in batch])
            futures = [future for _, future in batch]
            futures[0].get_loop().call_soon_threadsafe(_resolve, futures, results)

    def _results(self, requests: Sequence[Request]) -> Sequence[Result | Exception]:
        try:
            return self._process(requests)
        except Exception as error:  # noqa: BLE001 - the callers wait for an outcome
            if len(requests) == 1:
                return [error]
            return [self._results([request])[0] for request in requests]

    def _next_batch(self) -> list[tuple[Request, asyncio.Future[Result]]]:
        """Take the oldest request and those behind it that can share its batch, but leave the other workers theirs."""
        batch: list[tuple[Request, asyncio.Future[Result]]] = []
        with self._lock:
            share = min(self._max_size, -(-len(self._waiting) // self._workers))
            while len(batch) < share and (not batch or self._can_share(batch[0][0], self._waiting[0][0])):
                batch.append(self._waiting.popleft())
        return batch


def _resolve(futures: Sequence[asyncio.Future[Result]], results: Sequence[Result | Exception]) -> None:
    for future, result in zip(futures, results, strict=True):
        if future.done():
            continue  # The caller has gone.
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
