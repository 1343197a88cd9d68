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
    made = [client.correct(first.id, label="malignant", reason="biopsy", idempotency_key="k1") for _ in range(2)]
    assert made[0] == made[1]
    assert made[0] in client.corrections(state="pending")
    with pytest.raises(ServiceError) as caught:
        client.correct(first.id, label="no such class", reason="x")
    assert caught.value.http_status in (400, 422)


def test_the_model_is_described(client: Client) -> None:
    assert client.is_ready()
    assert client.model()["name"] == "golden"


def test_an_error_keeps_the_message_and_trace_id_of_the_service(client: Client, service: Running) -> None:
    with pytest.raises(ServiceError, match="No monitoring results yet") as caught:
        client.stored("monitor")
    assert (caught.value.http_status, caught.value.kind, len(caught.value.trace_id)) == (404, "NotFound", 32)
    with Client(service.address) as stranger, pytest.raises(ServiceError, match="no key"):
        stranger.model()


def answering(monkeypatch: pytest.MonkeyPatch, *answers: httpx.Response | Exception) -> tuple[Client, list[float]]:
    """A client of a service that gives these answers, and how long it waited between them."""
    left, waited = list(answers), list[float]()

    def respond(_: httpx.Request) -> httpx.Response:
        one = left.pop(0)
        if isinstance(one, Exception):
            raise one
        return one

    client = Client("http://service", transport=httpx.MockTransport(respond))
    monkeypatch.setattr("medloop.client.time.sleep", waited.append)
    return client, waited


BUSY: dict[str, Any] = {"status_code": 503, "headers": {"Retry-After": "2"}, "json": {"message": "Busy."}}


def test_a_busy_service_is_retried_after_the_time_it_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    client, waited = answering(monkeypatch, httpx.Response(**BUSY), httpx.Response(200, json={"name": "x"}))
    assert client.model() == {"name": "x"}
    assert waited == [2.0]


def test_retries_end(monkeypatch: pytest.MonkeyPatch) -> None:
    client, waited = answering(monkeypatch, *[httpx.Response(**BUSY) for _ in range(4)])
    with pytest.raises(ServiceError, match="Busy"):
        client.model()
    assert len(waited) == 3


def test_a_failed_connection_is_retried_but_not_a_request_that_broke_off(monkeypatch: pytest.MonkeyPatch) -> None:
    client, _ = answering(monkeypatch, httpx.ConnectError("x"), httpx.Response(200, json={"name": "x"}))
    assert client.model() == {"name": "x"}
    client, waited = answering(monkeypatch, httpx.ReadError("x"))
    with pytest.raises(UserError, match="Could not reach the service at http://service"):
        client.predict_rows([ROW])
    assert waited == []


def test_a_response_from_another_server_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    client, _ = answering(monkeypatch, httpx.Response(502, text="<html>"))
    with pytest.raises(ServiceError, match=r"not from medloop \(status 502\)"):
        client.model()
