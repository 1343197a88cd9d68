"""Callers share a commit where others are on their way, and nobody waits for one that does not come."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from medloop.feedback.db import writer as writing
from medloop.feedback.db.writer import Writer


@pytest.fixture
def groups() -> list[list[int]]:
    return []


@pytest.fixture
def writer(groups: list[list[int]]) -> Iterator[Writer[int]]:
    started: Writer[int] = Writer(groups.append)
    yield started
    started.close()


def test_those_on_their_way_share_a_commit(
    writer: Writer[int], groups: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "MAX_WAIT_S", 300.0)
    first, second, third = (writer.submit([number], enough=3) for number in range(3))
    third.result(60)
    assert groups == [[0, 1, 2]]
    assert first.done()
    assert second.done()


def test_one_alone_is_written_at_once(writer: Writer[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "MAX_WAIT_S", 300.0)
    writer.submit([1]).result(60)


def test_those_that_do_not_come_are_not_waited_for(writer: Writer[int], groups: list[list[int]]) -> None:
    writer.submit([1], enough=50).result(60)
    assert groups == [[1]]


def test_what_lingers_is_written_at_the_end(groups: list[list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "MAX_WAIT_S", 300.0)
    writer: Writer[int] = Writer(groups.append)
    waiting = writer.submit([1], enough=50)
    writer.close()
    assert waiting.result(0) is None
    assert groups == [[1]]


def test_a_bug_in_the_thread_that_writes_does_not_end_it(
    writer: Writer[int], groups: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(writing, "MAX_WAIT_S", "no number")
        waiting = writer.submit([1], enough=2)
        with pytest.raises(TimeoutError):
            waiting.result(0.1)
    waiting.result(60)
    assert writer.alive
    assert groups == [[1]]
