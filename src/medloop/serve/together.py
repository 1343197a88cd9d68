"""What waits at the same time is answered together, which costs less than one after the other."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

Asked = TypeVar("Asked")
Given = TypeVar("Given")


@dataclass(frozen=True, kw_only=True)
class Outcomes(Generic[Given]):
    """What became of each, in order; errors may be told at once, all else when it is durable."""

    all: Sequence[Given | Exception]
    durable: Future[None]


class Together(Generic[Asked, Given]):
    """`start` has work done soon, here or on one of so many threads; each piece takes its share of what waits."""

    def __init__(
        self,
        answer: Callable[[Sequence[Asked]], Outcomes[Given]],
        *,
        start: Callable[[Callable[[], None]], object],
        joins: Callable[[Asked, Asked], bool],
        threads: int,
        most: int,
    ) -> None:
        self._answer, self._start, self._joins = answer, start, joins
        self._threads, self._most = threads, most
        self._waiting: deque[tuple[Asked, asyncio.Future[Given]]] = deque()
        self._taking = threading.Lock()

    async def ask(self, asked: Asked) -> Given:
        """What was asked for, once it may be told."""
        future: asyncio.Future[Given] = asyncio.get_running_loop().create_future()
        self._waiting.append((asked, future))
        # Once for each that waits; whoever finds nothing left has nothing to do.
        self._start(self._work)
        return await future

    def _work(self) -> None:
        if taken := self._take():
            self._answer_together(taken)

    def _answer_together(self, taken: Sequence[tuple[Asked, asyncio.Future[Given]]]) -> None:
        futures = [future for _, future in taken]
        loop = futures[0].get_loop()
        try:
            outcomes = self._answer([asked for asked, _ in taken])
            told = list(zip(futures, outcomes.all, strict=True))
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it
            if len(taken) > 1:
                # One of them is the trouble; the others have no part in it.
                for one in taken:
                    self._answer_together([one])
            else:
                loop.call_soon_threadsafe(_tell, [(futures[0], error)])
            return
        if refused := [one for one in told if isinstance(one[1], Exception)]:
            loop.call_soon_threadsafe(_tell, refused)
        if given := [one for one in told if not isinstance(one[1], Exception)]:
            outcomes.durable.add_done_callback(partial(_pass_on, loop, given))

    def _take(self) -> list[tuple[Asked, asyncio.Future[Given]]]:
        """The first that waits and those behind it that can join it, as many as leaves the other threads theirs."""
        taken: list[tuple[Asked, asyncio.Future[Given]]] = []
        with self._taking:
            share = min(self._most, -(-len(self._waiting) // self._threads))
            while len(taken) < share and (not taken or self._joins(taken[0][0], self._waiting[0][0])):
                taken.append(self._waiting.popleft())
        return taken


def _pass_on(loop: asyncio.AbstractEventLoop, given: Sequence[Any], durable: Future[None]) -> None:
    error = durable.exception()
    # One word to the loop for all of them.
    loop.call_soon_threadsafe(_tell, [(future, error) for future, _ in given] if error else given)


def _tell(told: Sequence[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, outcome in told:
        if future.done():
            continue  # Nobody waits any more.
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
