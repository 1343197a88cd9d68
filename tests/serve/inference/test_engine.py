"""How many requests are in flight, and work on threads."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from medloop.serve.inference.engine import Engine


@pytest.fixture
def engine() -> Iterator[Engine]:
    with closing(Engine(threads=2)) as started:
        yield started


@pytest.mark.parametrize(("requests", "expected"), [(1, True), (2, False)])
def test_it_knows_a_single_request(engine: Engine, requests: int, expected: bool) -> None:
    with ExitStack() as stack:
        for _ in range(requests):
            stack.enter_context(engine.place())
        assert engine.has_one_request is expected


def test_work_returns_its_result_or_error(engine: Engine) -> None:
    def failing() -> None:
        raise OverflowError("too much")

    assert asyncio.run(engine.run(lambda: 7)) == 7
    with pytest.raises(OverflowError, match="too much"):
        asyncio.run(engine.run(failing))


@pytest.mark.parametrize(("requests", "surplus"), [(0, 1), (2, 1), (5, 1), (8, 4)])
def test_requests_beyond_those_of_the_threads_are_surplus(engine: Engine, requests: int, surplus: int) -> None:
    with ExitStack() as stack:
        for _ in range(requests):
            stack.enter_context(engine.place())
        assert engine.surplus == surplus
