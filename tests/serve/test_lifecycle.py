"""A version is swapped without a failed request, a broken one changes nothing, and SIGTERM loses nothing."""

from __future__ import annotations

import itertools
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from medloop.bundle import files
from medloop.feedback import open_feedback
from medloop.registry.store import ModelStore
from medloop.settings import FeedbackSettings
from medloop.storage import write_json
from tests.registry.versions import bundle_like, point_to, report_of, verdict_on
from tests.serve.processes import Running, serving, wait_until

ON_BOTH = pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)
BODY = {"features": [50, 10.0, 1.0, 0, "left", "I"]}


def register(store: ModelStore, golden: Path, name: str, **values: Any) -> int:
    work = store.folder.parent / name
    bundle = bundle_like(golden, work / "bundle", name=name)
    report = report_of(bundle, work / "report")
    return store.register(bundle, report, verdict_on(bundle, **values)).number


@pytest.fixture
def store(golden: Path, tmp_path: Path) -> ModelStore:
    """Three versions, of which the first serves and the last did not pass the gate."""
    store = ModelStore(tmp_path / "models")
    for name in ("one", "two"):
        register(store, golden, name)
    register(store, golden, "three", passed=False)
    store.promote(1, by="me")
    return store


@pytest.fixture
def settings(database: str) -> FeedbackSettings:
    return FeedbackSettings(url=database)


@pytest.fixture
def service(store: ModelStore, settings: FeedbackSettings) -> Iterator[Running]:
    with following(store, settings) as service:
        yield service


@contextmanager
def following(store: ModelStore, settings: FeedbackSettings) -> Iterator[Running]:
    """A service that follows the store of models and keeps its answers in this database."""
    root = store.folder.parent
    serve = {"watch_seconds": 0.05, "log_requests": False, "rate_limit": 10_000}
    write_json(root / "config.yaml", {"serve": serve, "feedback": {"url": settings.url}})
    open_feedback(settings, root=root, migrate=True).close()
    with serving(cwd=root, is_first=True) as service:
        yield service


class Callers:
    """A few clients that ask on and on, one request after the other, and keep what they were told."""

    def __init__(self, service: Running, requests: Sequence[dict[str, Any]] = ({"json": BODY},)) -> None:
        self.answers: list[dict[str, Any]] = []
        self.failures: list[object] = []
        self._service, self._ended = service, threading.Event()
        self._requests = requests
        self._threads = [threading.Thread(target=self._ask) for _ in range(3)]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        with self._service.client() as client:
            for request in itertools.cycle(self._requests):
                if self._ended.is_set():
                    return
                try:
                    answer = client.post("/predict", **request)
                except (httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError) as error:
                    self.failures.append(error)
                    return
                if answer.status_code == 200:
                    self.answers.append(answer.json())
                else:
                    self.failures.append(answer.text)


def serves(client: httpx.Client) -> str:
    return str(client.get("/v1/model").json()["version"])


@ON_BOTH
def test_promotion_and_rollback_under_load_lose_no_request(service: Running) -> None:
    with service.client() as client, Callers(service) as callers:
        assert client.post("/v1/models/2/promote").json()["version"] == 2
        wait_until(lambda: serves(client) == "2")
        assert client.post("/v1/models/rollback").json() | {"promoted": ""} == {
            "version": 1,
            "previous": 2,
            "promoted": "",
            "by": "first admin",
            "bundle": client.get("/v1/models").json()["versions"][0]["bundle"],
        }
        wait_until(lambda: serves(client) == "1")
        count = len(callers.answers)
        wait_until(lambda: len(callers.answers) > count + 3)
        refused = client.post("/v1/models/3/promote")
        assert (refused.status_code, refused.json()["error"]) == (409, "GateRefusal")
        assert client.post("/v1/models/9/promote").status_code == 404
    assert callers.failures == []
    assert {answer["version"] for answer in callers.answers} == {"1", "2"}
    assert 'medloop_model_swaps_total{outcome="taken"} 2.0' in metrics(service)


def metrics(service: Running) -> str:
    with service.client() as client:
        return client.get("/metrics").text


def test_a_broken_version_leaves_the_previous_one_active(service: Running, store: ModelStore) -> None:
    broken = store.version(2).folder / "bundle" / files.MODEL
    store.promote(2, by="me")
    with service.client() as client:
        wait_until(lambda: serves(client) == "2")
        store.rollback(by="me")
        wait_until(lambda: serves(client) == "1")
        content = bytearray(broken.read_bytes())
        content[len(content) // 2] ^= 1
        broken.write_bytes(content)
        point_to(store, 2)
        wait_until(lambda: 'outcome="refused"} 1.0' in metrics(service))
        assert serves(client) == "1"
        assert client.post("/predict", json=BODY).json()["version"] == "1"
        assert client.get("/readyz").status_code == 200
        (store.folder / "champion.json").write_text("{", encoding="utf-8")
        wait_until(lambda: 'outcome="refused"} 2.0' in metrics(service))
        assert client.post("/predict", json=BODY).status_code == 200


def test_the_versions_are_listed(service: Running) -> None:
    with service.client() as client:
        versions = client.get("/v1/models").json()["versions"]
        assert [(one["version"], one["gate"], one["is_champion"]) for one in versions] == [
            *((1, "passed", True), (2, "passed", False), (3, "refused", False)),
        ]
        assert client.get("/v1/models/1/report").json()["name"] == "golden"
        assert client.get("/v1/models/1/card").text.startswith("# Model card")
        assert client.get("/v1/models/3/verdict").json()["passed"] is False
        for path in ("/v1/models/4/report", "/v1/models/..%2f1/card", "/v1/models/0/verdict", "/v1/monitor"):
            assert client.get(path).status_code in (404, 422)


def in_the_journal(root: Path, answers: list[dict[str, Any]], settings: FeedbackSettings) -> bool:
    """Whether every answer was stored and the journal is whole."""
    with closing(open_feedback(settings, root=root)) as feedback:
        written = {entry.ref for entry in feedback.journal.entries(kind="prediction", limit=10**9)}
        assert {answer["id"] for answer in answers} <= written
        return all(feedback.prediction(answer["id"]) for answer in answers) and feedback.journal.verify() == []


@ON_BOTH
def test_sigterm_under_load_loses_nothing(service: Running, store: ModelStore, settings: FeedbackSettings) -> None:
    with Callers(service) as callers:
        wait_until(lambda: len(callers.answers) > 20)
        service.process.send_signal(signal.SIGTERM)
        rest = service.rest()
    assert "Traceback" not in rest
    # Whoever came after the end found nobody there; nobody was told that something failed.
    assert not [failure for failure in callers.failures if isinstance(failure, str)]
    assert in_the_journal(store.folder.parent, callers.answers, settings)


@ON_BOTH
def test_a_killed_service_has_stored_every_prediction(
    service: Running, store: ModelStore, settings: FeedbackSettings
) -> None:
    with Callers(service) as callers:
        wait_until(lambda: len(callers.answers) > 20)
        service.process.kill()
    assert in_the_journal(store.folder.parent, callers.answers, settings)


def test_the_start_and_the_stop_are_in_the_journal(service: Running, store: ModelStore) -> None:
    with service.client() as client:
        assert client.get("/readyz").status_code == 200
    service.process.terminate()
    service.rest()
    with closing(open_feedback(FeedbackSettings(), root=store.folder.parent)) as feedback:
        kinds = [entry.kind for entry in feedback.journal.entries(limit=100)]
    assert [kind for kind in kinds if kind in ("start", "stop")] == ["start", "stop"]
