"""Progress is shown on standard error and changes nothing of what is iterated."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Iterator

import pytest

from medloop import progress
from medloop.progress import track


class Screen(io.StringIO):
    """Standard error that is a terminal or a file."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.fixture(autouse=True)
def _every_item_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", -1.0)


@pytest.fixture(params=[True, False], ids=["a terminal", "a file"])
def screen(request: pytest.FixtureRequest) -> Screen:
    return Screen(terminal=request.param)


def track_all(items: Iterable[int], screen: Screen) -> list[int]:
    """The items that came through; pytest's own standard error is left alone."""
    with contextlib.redirect_stderr(screen):
        return list(track(items, total=3, what="folds"))


def test_the_items_pass_through_in_order(screen: Screen) -> None:
    assert track_all([3, 1, 2], screen) == [3, 1, 2]


def test_what_is_done_is_shown_and_standard_output_is_left_alone(screen: Screen) -> None:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        track_all(range(3), screen)
    assert "folds" in screen.getvalue()
    assert out.getvalue() == ""


def test_a_file_gets_a_line_with_what_is_done() -> None:
    screen = Screen(terminal=False)
    track_all(range(3), screen)
    assert screen.getvalue() == "folds: 1 of 3\nfolds: 2 of 3\nfolds: 3 of 3\n"


def test_short_work_says_nothing_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 1000.0)
    screen = Screen(terminal=False)
    track_all(range(3), screen)
    assert screen.getvalue() == ""


def test_items_are_taken_only_when_they_are_wanted(screen: Screen) -> None:
    taken: list[int] = []

    def take() -> Iterator[int]:
        for number in range(3):
            taken.append(number)
            yield number

    with contextlib.redirect_stderr(screen), contextlib.closing(take()) as items:
        tracked = iter(track(items, total=3, what="folds"))
        assert taken == []
        assert next(tracked) == 0
        assert taken == [0]


def test_an_error_among_the_items_comes_out(screen: Screen) -> None:
    with pytest.raises(ZeroDivisionError):
        track_all((1 // number for number in (1, 0)), screen)


def test_nothing_to_do_is_no_error(screen: Screen) -> None:
    assert track_all([], screen) == []
