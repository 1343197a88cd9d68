"""Who has all cores to itself, and how many may wait before the threads run out of work."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from medloop.serve.engine import Engine


@pytest.fixture
def engine() -> Iterator[Engine]:
    with closing(Engine(threads=2)) as started:
        yield started


@pytest.mark.parametrize(("requests", "calm"), [(1, True), (2, False)])
def test_it_is_calm_for_a_single_request(engine: Engine, requests: int, calm: bool) -> None:
    with ExitStack() as stack:
        for _ in range(requests):
            stack.enter_context(engine.place())
        assert engine.is_calm is calm


def test_work_is_done_on_its_threads(engine: Engine) -> None:
    def failing() -> None:
        raise OverflowError("too much")

    assert asyncio.run(engine.run(lambda: 7)) == 7
    with pytest.raises(OverflowError, match="too much"):
        asyncio.run(engine.run(failing))


@pytest.mark.parametrize(("requests", "spare"), [(0, 1), (2, 1), (5, 1), (8, 4)])
def test_the_threads_keep_their_work(engine: Engine, requests: int, spare: int) -> None:
    with ExitStack() as stack:
        for _ in range(requests):
            stack.enter_context(engine.place())
        assert engine.spare == spare
