"""Inputs in an object store: no answer waits for it, and what it does not take now it takes later."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from medloop.errors import UserError
from medloop.feedback import FeedbackAway, inputs, open_feedback
from medloop.feedback.inputs import RemoteInputs
from medloop.feedback.outage import background_jobs
from medloop.settings import FeedbackSettings
from medloop.storage import list_uris
from medloop.storage.objects import remove_older, upload
from tests.feedback.answers import kept_png, make_png, picture
from tests.feedback.conftest import Open

PLACE = "s3://scans/inputs"
Put = Callable[[str, bytes], None]


@pytest.fixture(params=["sqlite"])
def url() -> str:
    return "sqlite:///feedback.db"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background_jobs, "INTERVAL_S", 0.05)


def outbox(root: Path) -> list[Path]:
    return list((root / "feedback.outbox").rglob("*.png"))


def test_inputs_come_back_from_the_object_store(opened: Open, root: Path, bucket: Put) -> None:
    feedback = opened(inputs=PLACE)
    answers = [picture(number) for number in range(3)]
    feedback.record(answers)
    until = time.monotonic() + 60
    while outbox(root) and time.monotonic() < until:
        time.sleep(0.02)
    assert outbox(root) == []
    assert len(list(list_uris(PLACE))) == 3
    assert [kept_png(feedback, one.prediction.id) for one in answers] == [one.input_png for one in answers]
    assert not (root / "work").exists()


def test_inputs_wait_while_the_object_store_is_away(
    opened: Open, root: Path, bucket: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as away:
        away.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        away.setenv("AWS_MAX_ATTEMPTS", "1")
        store = RemoteInputs(PLACE, root / "feedback.outbox", days=1)
        address = store.put(make_png())
        with pytest.raises(UserError, match="The object store failed"):
            store.sync()
        assert store.get(address) == make_png()
    opened(inputs=PLACE).close()
    assert outbox(root) == []
    assert store.get(address) == make_png()


def test_what_waits_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "MAX_WAITING_FILES", 2)
    store = RemoteInputs(PLACE, tmp_path, days=1)
    for number in range(2):
        store.put(make_png(number))
    with pytest.raises(FeedbackAway, match="2 inputs are waiting"):
        store.put(make_png(3))


def test_old_objects_go(bucket: Put, tmp_path: Path) -> None:
    store = RemoteInputs(PLACE, tmp_path, days=1)
    address = store.put(make_png())
    store.sync()
    assert store.expire() == 0
    assert remove_older(PLACE, datetime.now(UTC) + timedelta(days=1)) == 1
    assert store.get(address) is None
    assert store.location(address) is None


def test_an_input_with_other_bytes_is_not_shown(opened: Open, root: Path) -> None:
    feedback = opened()
    answered = picture()
    feedback.record([answered])
    (path,) = root.glob("work/inputs/*/*.png")
    path.write_bytes(make_png(7))
    with pytest.raises(UserError, match="has changed since"):
        kept_png(feedback, answered.prediction.id)


def test_an_address_is_never_a_path(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(make_png())
    for store in (inputs.Inputs(tmp_path / "inputs", days=1), RemoteInputs(PLACE, tmp_path / "inputs", days=1)):
        for address in ("", "../secret", "../" * 21 + "x", "A" * 64, "s3://scans/secret"):
            assert store.get(address) is None


def test_another_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"feedback\.inputs has the unsupported scheme ftp"):
        open_feedback(FeedbackSettings(inputs="ftp://host/inputs"), root=tmp_path)


def test_files_are_uploaded_and_removed_by_age(bucket: Put, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path in paths:
        path.write_bytes(b"x")
    upload(paths, [f"{PLACE}/{path.name}" for path in paths])
    assert len(list(list_uris(PLACE))) == 3
    assert remove_older(PLACE, datetime.now(UTC) - timedelta(days=1)) == 0
    assert remove_older(PLACE, datetime.now(UTC) + timedelta(days=1)) == 3
    assert remove_older(PLACE, datetime.now(UTC) + timedelta(days=1)) == 0
