"""The client against a real service, and against one that is busy or away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from medloop.client import Client, ServiceError
from medloop.errors import UserError
from tests.serve.processes import Running, serving

ROW = {"age (years)": 50, "Größe, cm": 10.0, "c0": 1.0, "one": 0, "label": "left", "prepare/variable": "I"}


@pytest.fixture(scope="module")
def service(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving("--bundle", golden, cwd=tmp_path_factory.mktemp("client")) as running:
        yield running


@pytest.fixture
def client(service: Running) -> Iterator[Client]:
    with Client(service.address, key=service.key) as client:
        yield client


def test_rows_get_predictions_that_can_be_read_again_and_corrected(client: Client) -> None:
    first, second = client.predict_rows([ROW, ROW])
    assert first.id != second.id
    stored = client.prediction(first.id)
    assert (stored.label, stored.probabilities) == (first.label, first.probabilities)
    made = [client.correct(first.id, label="malignant", reason="biopsy", once="k1") for _ in range(2)]
    assert made[0] == made[1]
    assert made[0] in client.corrections(state="pending")
    with pytest.raises(ServiceError) as caught:
        client.correct(first.id, label="no such class", reason="x")
    assert caught.value.http_status in (400, 422)


def test_what_serves_is_told(client: Client) -> None:
    assert client.is_ready()
    assert client.model()["name"] == "golden"


def test_a_refusal_keeps_the_words_and_the_trace_of_the_service(client: Client, service: Running) -> None:
    with pytest.raises(ServiceError, match="something must have been stored") as caught:
        client.stored("monitor")
    assert (caught.value.http_status, caught.value.kind, len(caught.value.trace_id)) == (404, "NotFound", 32)
    with Client(service.address) as stranger, pytest.raises(ServiceError, match="must carry a valid key"):
        stranger.model()


def answering(monkeypatch: pytest.MonkeyPatch, *answers: httpx.Response | Exception) -> tuple[Client, list[float]]:
    """A client of a service that gives these answers, and how long it waited between them."""
    left, waited = list(answers), list[float]()

    def answer(_: httpx.Request) -> httpx.Response:
        one = left.pop(0)
        if isinstance(one, Exception):
            raise one
        return one

    client = Client("http://service")
    client._http = httpx.Client(base_url="http://service", transport=httpx.MockTransport(answer))
    monkeypatch.setattr("medloop.client.time.sleep", waited.append)
    return client, waited


BUSY: dict[str, Any] = {"status_code": 503, "headers": {"Retry-After": "2"}, "json": {"message": "busy; found: much"}}


def test_a_busy_service_is_asked_again_when_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    client, waited = answering(monkeypatch, httpx.Response(**BUSY), httpx.Response(200, json={"name": "x"}))
    assert client.model() == {"name": "x"}
    assert waited == [2.0]


def test_one_that_stays_busy_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    client, waited = answering(monkeypatch, *[httpx.Response(**BUSY) for _ in range(4)])
    with pytest.raises(ServiceError, match=r"busy\n  found: much"):
        client.model()
    assert len(waited) == 3


def test_a_service_that_starts_is_waited_for_but_one_that_broke_off_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    client, _ = answering(monkeypatch, httpx.ConnectError("x"), httpx.Response(200, json={"name": "x"}))
    assert client.model() == {"name": "x"}
    client, waited = answering(monkeypatch, httpx.ReadError("x"))
    with pytest.raises(UserError, match="the service must answer"):
        client.predict_rows([ROW])
    assert waited == []


def test_an_answer_of_somebody_else_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    client, _ = answering(monkeypatch, httpx.Response(502, text="<html>"))
    with pytest.raises(ServiceError, match=r"in its own form\n  found: status 502"):
        client.model()
