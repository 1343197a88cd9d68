"""A service on a machine without the project's disk follows what is promoted there, through a real S3 server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from medloop.case import Row
from medloop.registry.mirror import open_store, publish
from medloop.registry.store import ModelStore
from medloop.settings import load_settings
from medloop.storage import read_json, write_json
from tests.serve.processes import Running, serving
from tests.serve.shadow.challengers import contested_store, is_right, shadows
from tests.serve.test_lifecycle import BODY, Callers, metrics, register, serves, wait_until

PLACE = "s3://models/ours"


class ObjectStore:
    """An object store that can be switched off; what it holds outlives that."""

    def __init__(self) -> None:
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        host, self.port = self._server.get_host_and_port()
        self.address = f"http://{host}:{self.port}"

    def stop(self) -> None:
        self._server.stop()

    def start(self) -> None:
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self._server.start()


@pytest.fixture
def objects(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    store = ObjectStore()
    for name, value in {
        "AWS_ENDPOINT_URL": store.address,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", endpoint_url=store.address)
    client.create_bucket(Bucket="models")
    yield store
    for found in client.list_objects_v2(Bucket="models").get("Contents", []):
        client.delete_object(Bucket="models", Key=found["Key"])
    client.delete_bucket(Bucket="models")
    client.close()
    store.stop()


@pytest.fixture
def store(objects: ObjectStore, golden: Path, tmp_path: Path) -> ModelStore:
    """Two versions in the project, the first of which serves and was copied."""
    store = ModelStore(tmp_path / "project" / "models")
    for name in ("one", "two"):
        register(store, golden, name)
    store.promote(1, by="me")
    publish(store, PLACE)
    return store


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    serve = {"watch_seconds": 0.1, "log_requests": False, "rate_limit": 10_000}
    write_json(folder / "config.yaml", {"models": PLACE, "serve": serve})
    return folder


def answers_go_on(callers: Callers) -> None:
    count = len(callers.answers)
    wait_until(lambda: len(callers.answers) > count + 20)


def test_a_challenger_shadows_on_the_machine_that_mirrors_the_store(
    objects: ObjectStore, golden: Path, rows: list[Row], root: Path, tmp_path: Path
) -> None:
    store = contested_store(golden, tmp_path / "project")
    publish(store, PLACE)
    settings = {**read_json(root / "config.yaml"), "shadow": {"idle": False, "share": 1.0}}
    write_json(root / "config.yaml", settings)
    with serving(cwd=root) as service, service.client() as client:
        wait_until(lambda: service.process.pid in shadows().values())
        assert client.post("/v1/predictions", json={"records": rows}).status_code == 200
        wait_until(lambda: client.get("/v1/shadow").json().get("scored") == len(rows))
        is_right(client.get("/v1/shadow").json(), store, rows)
        # Promoted, it shadows nobody.
        store.promote(2, by="me")
        publish(store, PLACE)
        wait_until(lambda: not set(shadows().values()) & {service.process.pid})
        assert serves(client) == "2"


def copy_of(root: Path) -> ModelStore:
    return open_store(load_settings(root), root)


def promote_there(service: Running) -> tuple[int, str]:
    with service.client() as client:
        answer = client.post("/v1/models/2/promote")
        return answer.status_code, answer.json()["message"]


def test_a_remote_promotion_is_followed_under_load_and_outages_of_the_store_fail_nothing(
    store: ModelStore, objects: ObjectStore, root: Path
) -> None:
    with serving(cwd=root) as service, service.client() as client, Callers(service) as callers:
        assert serves(client) == "1"
        store.promote(2, by="me")
        publish(store, PLACE)
        wait_until(lambda: serves(client) == "2")
        objects.stop()
        answers_go_on(callers)
        assert client.get("/readyz").status_code == 200
        status, message = promote_there(service)
        assert (status, "follows a copy of the model store" in message) == (409, True)
        objects.start()
        store.rollback(by="me")
        publish(store, PLACE)
        wait_until(lambda: serves(client) == "1")
        assert 'outcome="refused"' not in metrics(service)
    assert callers.failures == []
    assert {answer["version"] for answer in callers.answers} == {"1", "2"}


def test_a_service_starts_from_its_own_copy_while_the_store_is_unreachable(
    store: ModelStore, objects: ObjectStore, root: Path
) -> None:
    with serving(cwd=root) as first:
        key = first.key
    objects.stop()
    with serving(cwd=root) as second, second.client(key=key) as client:
        assert copy_of(root).champion() == store.champion()
        assert client.post("/predict", json=BODY).json()["version"] == "1"
        store.promote(2, by="me")
        objects.start()
        publish(store, PLACE)
        wait_until(lambda: serves(client) == "2")
        second.process.terminate()
        rest = second.rest()
    assert "Traceback" not in rest
    assert "the object store is available again" in rest
