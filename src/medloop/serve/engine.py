"""The worker threads that decode and infer, and the limit on what may wait for them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from medloop.serve.refusals import Busy

Result = TypeVar("Result")


class Engine:
    """Runs each piece of work whole on one thread: a hand-over between threads costs more than it gains."""

    def __init__(self, *, threads: int | None = None, queue: int = 64) -> None:
        self.threads = threads or cores()
        self.queue = queue
        self.requests = 0
        self._running = 0
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="infer")

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for one request, or Busy where all are taken."""
        self.check()
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    def check(self) -> None:
        """Raises Busy where one more request would have to wait too long."""
        if self.requests >= self.queue:
            raise Busy(f"{self.requests} requests are waiting or worked on")

    @property
    def spare(self) -> int:
        """How many requests may wait for something else while the threads still have work; at least one."""
        return max(1, self.requests - self.threads)

    async def run(self, work: Callable[[bool], Result]) -> Result:
        """The work's result; it is told whether it is alone, and so has all cores to itself."""
        # A session on all cores keeps them busy for a while after its work, so it is not for a pause between many.
        alone = self._running == 0 and self.requests <= 1
        self._running += 1
        future = asyncio.get_running_loop().run_in_executor(self._pool, work, alone)
        future.add_done_callback(self._leave)
        # A caller that goes away does not end the thread's work, so it must not end the count either.
        return await asyncio.shield(future)

    def close(self) -> None:
        """Ends the threads once their work is done."""
        self._pool.shutdown(wait=True)

    def _leave(self, future: asyncio.Future[Result]) -> None:
        self._running -= 1
        if not future.cancelled():
            future.exception()


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
