"""The threads that decode and infer, and the limit on what may wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from medloop.cores import cores
from medloop.serve.refusals import Busy

Result = TypeVar("Result")


class Engine:
    """Runs each piece of work whole on one thread: a hand-over between threads costs more than it gains."""

    def __init__(self, *, threads: int | None = None, queue: int = 64) -> None:
        self.threads = threads or cores()
        self.queue = queue
        self.requests = 0
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="infer")
        # One, for several would take the interpreter from the event loop for longer.
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="read")

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
        return max(1, self.requests - 2 * self.threads)

    @property
    def is_calm(self) -> bool:
        """Whether one request alone is under way, and so may have all cores to itself."""
        return self.requests <= 1

    def start(self, work: Callable[[], None]) -> None:
        """Has work done that tells its own end."""
        self._pool.submit(work)

    async def run(self, work: Callable[[], Result]) -> Result:
        """The work's result."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def read(self, work: Callable[[], Result]) -> Result:
        """The result of reading a large body, one at a time."""
        return await asyncio.get_running_loop().run_in_executor(self._reader, work)

    def close(self) -> None:
        """Ends the threads once their work is done."""
        self._reader.shutdown(wait=True)
        self._pool.shutdown(wait=True)
