"""Which requests are processed together, and who receives which result."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence

import pytest

from medloop.serve.inference.batching import MicroBatcher


class Workers:
    """Processes nothing until `run` is called, like threads that are busy."""

    def __init__(self) -> None:
        self.scheduled: list[Callable[[], None]] = []
        self.batches: list[list[int]] = []

    def process(self, requests: Sequence[int]) -> list[str | Exception]:
        self.batches.append(list(requests))
        if 13 in requests:
            raise RuntimeError("13")
        return [ValueError("odd") if request % 2 else f"{request}" for request in requests]

    def run(self) -> None:
        for function in self.scheduled:
            function()
        self.scheduled.clear()


def batcher(workers: Workers, *, count: int = 1, max_size: int = 100) -> MicroBatcher[int, str]:
    return MicroBatcher(
        workers.process,
        schedule=workers.scheduled.append,
        can_share=lambda first, second: (first < 100) == (second < 100),
        workers=count,
        max_size=max_size,
    )


async def submitted(to: MicroBatcher[int, str], *requests: int) -> list[asyncio.Task[str]]:
    tasks = [asyncio.create_task(to.submit(request)) for request in requests]
    await asyncio.sleep(0)
    return tasks


def test_each_caller_receives_its_own_result_or_error() -> None:
    async def run() -> None:
        workers = Workers()
        two, three, four = await submitted(batcher(workers), 2, 3, 4)
        workers.run()
        assert await asyncio.gather(two, four) == ["2", "4"]
        with pytest.raises(ValueError, match="odd"):
            await three

    asyncio.run(run())


@pytest.mark.parametrize(("count", "max_size"), [(1, 100), (2, 100), (1, 2), (4, 3)])
def test_waiting_requests_are_shared_out_in_order(count: int, max_size: int) -> None:
    async def run() -> None:
        workers = Workers()
        requests = list(range(0, 18, 2))
        tasks = await submitted(batcher(workers, count=count, max_size=max_size), *requests)
        workers.run()
        assert [request for batch in workers.batches for request in batch] == requests
        # No worker takes more than its share of what waits, or than a batch may have.
        assert len(workers.batches[0]) == min(max_size, -(-len(requests) // count))
        assert await asyncio.gather(*tasks) == [f"{request}" for request in requests]

    asyncio.run(run())


def test_requests_that_cannot_share_a_batch_are_processed_apart() -> None:
    async def run() -> None:
        workers = Workers()
        tasks = await submitted(batcher(workers), 2, 100, 102, 4)
        workers.run()
        assert all(max(batch) < 100 or min(batch) >= 100 for batch in workers.batches)
        assert await asyncio.gather(*tasks) == ["2", "100", "102", "4"]

    asyncio.run(run())


def test_a_request_that_fails_does_not_fail_the_others() -> None:
    async def run() -> None:
        workers = Workers()
        before, broken, after = await submitted(batcher(workers), 2, 13, 4)
        workers.run()
        assert await asyncio.gather(before, after) == ["2", "4"]
        with pytest.raises(RuntimeError, match="13"):
            await broken

    asyncio.run(run())


def test_a_caller_that_has_gone_does_not_disturb_the_others() -> None:
    async def run() -> None:
        workers = Workers()
        gone, left = await submitted(batcher(workers), 2, 4)
        gone.cancel()
        workers.run()
        assert await left == "4"
        assert gone.cancelled()

    asyncio.run(run())


def test_threads_can_be_the_workers() -> None:
    async def run() -> list[str]:
        workers = Workers()
        to: MicroBatcher[int, str] = MicroBatcher(
            workers.process,
            schedule=lambda function: threading.Thread(target=function).start(),
            can_share=lambda *_: True,
            workers=2,
            max_size=4,
        )
        return await asyncio.gather(*(to.submit(request) for request in range(0, 100, 2)))

    assert asyncio.run(run()) == [f"{request}" for request in range(0, 100, 2)]
