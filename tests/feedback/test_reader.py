"""A reader sees the stored answers in order and changes nothing."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from medloop.feedback import FeedbackAway
from medloop.feedback import reader as reading
from medloop.feedback.reader import BEGINNING, Mark, Reader
from medloop.settings import FeedbackSettings
from tests.feedback.answers import make_png, picture, table
from tests.feedback.conftest import Open


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SETTLED", timedelta(0))


def test_answers_come_in_order_and_from_any_place_on(opened: Open, url: str, root: Path) -> None:
    store, stored = opened(), [picture(number) for number in range(5)]
    bundle = stored[0].prediction.bundle
    for one in stored:
        store.record([one])
    with closing(Reader(FeedbackSettings(url=url), root=root)) as reader:
        first = reader.after(BEGINNING, bundle=bundle, limit=2)
        mark = Mark(at=first[-1].at, id=first[-1].prediction.id)
        rest = reader.after(mark, bundle=bundle, limit=10)
        assert [one.prediction for one in (*first, *rest)] == [one.prediction for one in stored]
        assert reader.count_after(mark, bundle=bundle) == 3
        assert reader.after(reader.back(3, bundle=bundle), bundle=bundle, limit=10) == rest
        assert reader.back(5, bundle=bundle) == BEGINNING
        assert reader.after(BEGINNING, bundle="another", limit=10) == []


def test_inputs_are_there_as_long_as_they_are_kept(opened: Open, url: str, root: Path) -> None:
    store = opened()
    store.record([picture(1)])
    store.record([table({"age": 50.0, "side": "left"})])
    opened(keep_inputs=False).record([table({"age": 51.0, "side": "right"})])
    with closing(Reader(FeedbackSettings(url=url), root=root)) as reader:
        stored = reader.after(BEGINNING, bundle="b" * 64, limit=10)
        assert [reader.inputs_of(one) for one in stored] == [[make_png(1)], [{"age": 50.0, "side": "left"}], None]


def test_only_accepted_corrections_are_told(opened: Open, url: str, root: Path) -> None:
    store, stored = opened(), [picture(number) for number in range(2)]
    store.record(stored)
    ids = [one.prediction.id for one in stored]
    corrections = [store.correct(name, "ring", "seen", "ann") for name in ids]
    store.review(corrections[0].id, "accepted", "bob")
    with closing(Reader(FeedbackSettings(url=url), root=root)) as reader:
        assert reader.corrected(ids) == {ids[0]: "ring"}
        assert reader.corrected([]) == {}


def test_what_is_not_there_is_not_made(root: Path) -> None:
    with pytest.raises(FeedbackAway):
        Reader(FeedbackSettings(), root=root)
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("url", ["sqlite:///feedback.db"], ids=["sqlite"])
def test_the_last_writer_finds_itself_alone(opened: Open, root: Path) -> None:
    store = opened()
    store.record([picture(1)])
    with closing(Reader(FeedbackSettings(), root=root)) as reader:
        assert reader.count_after(BEGINNING, bundle="b" * 64) == 1
        store.close()
        assert not (root / "feedback.db-wal").exists()
