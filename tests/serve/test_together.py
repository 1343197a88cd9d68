"""Who is answered together with whom, and when each hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import pytest

from medloop.serve.together import Outcomes, Together


class Worker:
    """Does nothing until it is told to, as threads that are busy do."""

    def __init__(self) -> None:
        self.begun: list[Callable[[], None]] = []
        self.groups: list[list[int]] = []
        self.durable: list[Future[None]] = []

    def answer(self, asked: Sequence[int]) -> Outcomes[str]:
        self.groups.append(list(asked))
        self.durable.append(Future())
        if 13 in asked:
            raise RuntimeError("13")
        return Outcomes(all=[ValueError("odd") if one % 2 else f"{one}" for one in asked], durable=self.durable[-1])

    def work(self) -> None:
        for piece in self.begun:
            piece()
        self.begun.clear()


def together(worker: Worker, *, threads: int = 1, most: int = 100) -> Together[int, str]:
    return Together(
        worker.answer,
        start=worker.begun.append,
        joins=lambda one, other: (one < 100) == (other < 100),
        threads=threads,
        most=most,
    )


async def asked(of: Together[int, str], *numbers: int) -> list[asyncio.Task[str]]:
    tasks = [asyncio.create_task(of.ask(number)) for number in numbers]
    await asyncio.sleep(0)
    return tasks


def test_an_answer_is_told_when_it_is_durable_and_an_error_at_once() -> None:
    async def run() -> None:
        worker = Worker()
        two, three, four = await asked(together(worker), 2, 3, 4)
        worker.work()
        assert worker.groups == [[2, 3, 4]]
        with pytest.raises(ValueError, match="odd"):
            await three
        assert not two.done()
        worker.durable[0].set_result(None)
        assert await asyncio.gather(two, four) == ["2", "4"]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("threads", "most", "groups"),
    [(1, 100, [[0, 2, 4, 6, 8]]), (2, 100, [[0, 2, 4], [6], [8]]), (1, 2, [[0, 2], [4, 6], [8]])],
)
def test_each_takes_its_share(threads: int, most: int, groups: list[list[int]]) -> None:
    async def run() -> None:
        worker = Worker()
        tasks = await asked(together(worker, threads=threads, most=most), 0, 2, 4, 6, 8)
        worker.work()
        for durable in worker.durable:
            durable.set_result(None)
        assert worker.groups == groups
        assert await asyncio.gather(*tasks) == ["0", "2", "4", "6", "8"]

    asyncio.run(run())


def test_none_waits_for_one_that_does_not_join() -> None:
    async def run() -> None:
        worker = Worker()
        await asked(together(worker), 2, 100, 102, 4)
        worker.work()
        assert worker.groups == [[2], [100, 102], [4]]

    asyncio.run(run())


def test_what_goes_wrong_is_heard_by_all_that_it_concerns() -> None:
    async def run() -> None:
        worker = Worker()
        before, wrong, beside = await asked(together(worker, most=2), 2, 4, 13)
        worker.work()
        worker.durable[0].set_exception(OSError("disk"))
        for task in (before, wrong):
            with pytest.raises(OSError, match="disk"):
                await task
        with pytest.raises(RuntimeError, match="13"):
            await beside

    asyncio.run(run())


def test_one_who_went_away_is_not_told() -> None:
    async def run() -> None:
        worker = Worker()
        gone, left = await asked(together(worker), 2, 4)
        gone.cancel()
        worker.work()
        worker.durable[0].set_result(None)
        assert await left == "4"
        assert gone.cancelled()

    asyncio.run(run())
