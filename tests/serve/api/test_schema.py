"""Calls made up from the OpenAPI document, right ones and wrong ones, find no bug of a real service."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase
from schemathesis import GenerationMode

from medloop.registry.store import ModelStore
from tests.serve.processes import Running, serving
from tests.serve.test_lifecycle import register

SETTINGS = "serve: {rate_limit: 100000, log_requests: false, watch_seconds: 0.2}\n"


@pytest.fixture
def table_service(golden: Path, tmp_path: Path) -> Iterator[Running]:
    """It follows a store of two versions, so that calls may promote and roll back."""
    store = ModelStore(tmp_path / "models")
    for name in ("one", "two"):
        register(store, golden, name)
    store.promote(1, by="me")
    (tmp_path / "config.yaml").write_text(SETTINGS, encoding="utf-8")
    with serving(cwd=tmp_path) as service:
        yield service


@pytest.fixture
def image_service(image_bundle: Path, tmp_path: Path) -> Iterator[Running]:
    (tmp_path / "config.yaml").write_text(SETTINGS, encoding="utf-8")
    with serving("--bundle", image_bundle, cwd=tmp_path) as service:
        yield service


class Caller:
    """Sends made-up calls, and keeps how they were answered."""

    def __init__(self, service: Running, given: str) -> None:
        self.statuses: Counter[int] = Counter()
        self._service, self._given = service, given
        self._session = requests.Session()
        self._session.trust_env = False

    def send(self, case: schemathesis.Case) -> None:
        # An id that was never given leads nowhere, so every other call asks for one that was.
        if "prediction" in case.path_parameters and sum(self.statuses.values()) % 2:
            case.path_parameters["prediction"] = self._given
        secret = {"Authorization": f"Bearer {self._service.key}"}
        answer = case.call(base_url=self._service.address, session=self._session, headers=secret, timeout=60)
        self.statuses[answer.status_code] += 1
        if answer.status_code >= 400 and case.method != "HEAD":
            told = f"{answer.status_code} {answer.text[:200]!r}: {case.as_curl_command()}"
            assert answer.headers.get("content-type") == ["application/json"], told
            assert set(answer.json()) == {"error", "message", "hint", "trace_id"}, told
        is_meant = answer.status_code == 503 and "retry-after" in answer.headers
        assert answer.status_code < 500 or is_meant, f"{answer.status_code}: {case.as_curl_command()}"


def call(service: Running, first: dict[str, Any], count: int) -> Counter[int]:
    """About so many calls, shared out between the operations."""
    with service.client() as client:
        given = client.post("/predict", **first).json()["id"]
        document = client.get("/openapi.json").json()
    caller = Caller(service, given)
    operations = [found.ok() for found in schemathesis.openapi.from_dict(document).get_all_operations()]
    assert len(operations) >= 18
    each = hypothesis.settings(
        max_examples=count // (2 * len(operations)),
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    for operation in operations:
        for mode in GenerationMode:
            # Not every operation can be called wrongly.
            with suppress(hypothesis.errors.Unsatisfiable):
                hypothesis.given(operation.as_strategy(generation_mode=mode))(each(lambda case: caller.send(case)))()  # noqa: PLW0108 - a method takes no settings
    with service.client() as client:
        assert client.get("/readyz").status_code == 200
        assert client.post("/predict", **first).status_code == 200
    return caller.statuses


def body_of(known: list[dict[str, Any]]) -> dict[str, Any]:
    return {"json": {"features": list(known[0]["record"].values())}}


def test_generated_calls_find_no_bug_with_a_table(table_service: Running, known: list[dict[str, Any]]) -> None:
    statuses = call(table_service, body_of(known), 250)
    assert min(statuses[200], statuses[422]) > 20


def test_generated_calls_find_no_bug_with_images(image_service: Running, scans: list[bytes]) -> None:
    statuses = call(image_service, {"files": {"file": ("a.png", scans[0])}}, 250)
    assert min(statuses[200], statuses[422]) > 20


@pytest.mark.soak
def test_ten_thousand_generated_calls_with_a_table(table_service: Running, known: list[dict[str, Any]]) -> None:
    statuses = call(table_service, body_of(known), 13_000)
    assert sum(statuses.values()) > 10_000


@pytest.mark.soak
def test_ten_thousand_generated_calls_with_images(image_service: Running, scans: list[bytes]) -> None:
    statuses = call(image_service, {"files": {"file": ("a.png", scans[0])}}, 13_000)
    assert sum(statuses.values()) > 10_000
