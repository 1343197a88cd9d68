"""The threads that decode and infer, and the limit on requests in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from medloop.cores import cores
from medloop.serve.http.refusals import Busy

Result = TypeVar("Result")


class Engine:
    """Runs each piece of work on one thread, since passing it between threads costs more than it gains."""

    def __init__(self, *, threads: int | None = None, queue: int = 64) -> None:
        self.threads = threads or cores()
        self.queue = queue
        self.requests = 0
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="infer")
        # A single thread, since several would keep the interpreter from the event loop for longer.
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="read")

    @contextmanager
    def place(self) -> Iterator[None]:
        """Count one request as in flight until the block ends, or raise Busy if there are too many."""
        self.check()
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    def check(self) -> None:
        """Raise Busy if one more request would have to wait too long."""
        if self.requests >= self.queue:
            raise Busy(f"The service is busy with {self.requests} requests.")

    @property
    def surplus(self) -> int:
        """Return how many requests are in flight beyond those that keep the threads busy; at least one."""
        return max(1, self.requests - 2 * self.threads)

    @property
    def has_one_request(self) -> bool:
        """Return whether one request at most is in flight, which may then use all cores."""
        return self.requests <= 1

    def start(self, work: Callable[[], None]) -> None:
        """Schedule work whose result nobody waits for here."""
        self._pool.submit(work)

    async def run(self, work: Callable[[], Result]) -> Result:
        """Return the result of work on one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def read(self, work: Callable[[], Result]) -> Result:
        """Return the result of parsing a large body; one is parsed at a time."""
        return await asyncio.get_running_loop().run_in_executor(self._reader, work)

    def close(self) -> None:
        """Stop the threads once their work is done."""
        self._reader.shutdown(wait=True)
        self._pool.shutdown(wait=True)
