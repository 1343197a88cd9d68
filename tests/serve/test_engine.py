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


@pytest.mark.parametrize(("requests", "alone"), [(1, True), (2, False)])
def test_only_a_single_request_is_alone(engine: Engine, requests: int, alone: bool) -> None:
    with ExitStack() as stack:
        for _ in range(requests):
            stack.enter_context(engine.place())
        assert asyncio.run(engine.run(lambda told: told)) is alone


@pytest.mark.parametrize(("requests", "spare"), [(0, 1), (2, 1), (3, 1), (8, 6)])
def test_the_threads_keep_their_work(engine: Engine, requests: int, spare: int) -> None:
    with ExitStack() as stack:
        for _ in range(requests):
            stack.enter_context(engine.place())
        assert engine.spare == spare
