"""The challenger answers unseen what the champion has answered; what it does to itself, the service does not feel."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from medloop.case import Row
from medloop.feedback import open_feedback
from medloop.registry.store import ModelStore
from medloop.settings import FeedbackSettings
from medloop.storage import write_json
from tests.registry.versions import bundle_like, report_of, verdict_on
from tests.serve.processes import Running, serving
from tests.serve.shadow.challengers import FOR_EVER, contested_store, found, hanging, is_right, register, shadows
from tests.serve.test_lifecycle import Callers, wait_until

ON_BOTH = pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def store(golden: Path, tmp_path: Path) -> ModelStore:
    return contested_store(golden, tmp_path)


@contextmanager
def started(root: Path, *words: object, url: str = "sqlite:///feedback.db", **shadow: Any) -> Iterator[Running]:
    serve = {"watch_seconds": 0.05, "log_requests": False, "rate_limit": 10_000}
    # Tests that run beside this one leave nothing idle.
    settings = {"serve": serve, "feedback": {"url": url}, "shadow": {"idle": False, "share": 1.0, **shadow}}
    write_json(root / "config.yaml", settings)
    open_feedback(FeedbackSettings(url=url), root=root, migrate=True).close()
    with serving(*words, cwd=root, is_first=True) as service:
        yield service


def ask(service: Running, rows: list[Row]) -> list[dict[str, Any]]:
    with service.client() as client:
        answer = client.post("/v1/predictions", json={"records": rows})
    assert answer.status_code == 200, answer.text
    predictions: list[dict[str, Any]] = answer.json()["predictions"]
    return predictions


def shadow_of(service: Running) -> int:
    wait_until(lambda: service.process.pid in shadows().values())
    (only,) = [child for child, parent in shadows().items() if parent == service.process.pid]
    return only


@ON_BOTH
def test_the_pair_is_compared_and_changes_with_a_promotion(
    store: ModelStore, golden: Path, rows: list[Row], database: str
) -> None:
    root = store.folder.parent
    with started(root, url=database) as service, service.client() as client:
        ask(service, rows)
        wait_until(lambda: found(store)["scored"] == len(rows))
        report = client.get("/v1/shadow").json()
        is_right(report, store, rows)
        assert f'medloop_shadow_scored{{challenger="2",champion="1"}} {len(rows)}.0' in client.get("/metrics").text
        assert (report["why"], report["failed"], report["skipped"]) == (None, {}, {})
        assert not {"row", "key", "input"} & set(report["differences"][0])
        assert client.post("/v1/models/2/promote").status_code == 200
        wait_until(lambda: "no challenger" in (found(store)["why"] or ""))
        wait_until(lambda: not set(shadows().values()) & {service.process.pid})
        register(store, bundle_like(golden, root / "three", name="three"))
        wait_until(lambda: (found(store)["champion"] or {}).get("version") == 2 and shadow_of(service) > 0)
        wait_until(lambda: client.get("/v1/model").json()["version"] == "2")
        ask(service, rows[:3])
        wait_until(lambda: found(store)["scored"] == 3)
        assert found(store)["challenger"]["version"] == 3


def test_a_version_that_the_gate_refused_never_shadows(golden: Path, tmp_path: Path, rows: list[Row]) -> None:
    store = ModelStore(tmp_path / "models")
    register(store, bundle_like(golden, tmp_path / "one", name="one"))
    store.promote(1, by="me")
    bundle = bundle_like(golden, tmp_path / "two", name="two")
    store.register(bundle, report_of(bundle, tmp_path / "two-report"), verdict_on(bundle, passed=False))
    with started(tmp_path) as service, service.client() as client:
        ask(service, rows[:2])
        wait_until(lambda: "no challenger" in (found(store)["why"] or ""))
        assert client.get("/v1/shadow").json()["challenger"] is None
        listed = client.get("/v1/models").json()["versions"]
        assert [(one["version"], one["gate"]) for one in listed] == [(1, "passed"), (2, "refused")]
    assert found(store)["scored"] == 0


def test_a_killed_shadow_is_restarted_and_an_orphaned_one_ends(store: ModelStore, rows: list[Row]) -> None:
    with started(store.folder.parent) as service:
        ask(service, rows)
        wait_until(lambda: found(store)["scored"] == len(rows))
        first = shadow_of(service)
        with Callers(service) as callers:
            os.kill(first, signal.SIGSEGV)
            wait_until(lambda: found(store)["failed"] == {"killed by SIGSEGV": 1})
            wait_until(lambda: found(store)["scored"] > len(rows))
        assert callers.failures == []
        second = shadow_of(service)
        assert second != first
        service.process.kill()
        wait_until(lambda: second not in shadows())


def test_a_challenger_that_hangs_is_ended_and_the_service_goes_on(
    store: ModelStore, golden: Path, rows: list[Row]
) -> None:
    root = store.folder.parent
    register(store, hanging(golden, root / "three"))
    with started(root, case_seconds=0.5) as service:
        ask(service, rows[:5])
        wait_until(lambda: found(store)["scored"] == 5)
        ask(service, [{**rows[0], "age (years)": FOR_EVER}])
        with Callers(service) as callers:
            wait_until(lambda: found(store)["failed"] == {"hung": 1})
        assert len(callers.answers) > 20
        assert callers.failures == []
        wait_until(lambda: bool(ask(service, rows[:1])) and found(store)["scored"] > 5)


def test_several_processes_have_one_shadow(store: ModelStore, rows: list[Row]) -> None:
    with started(store.folder.parent, "--workers", 2) as service:
        for row in rows[:6]:
            ask(service, [row])
        wait_until(lambda: found(store)["scored"] == 6)
        only = shadow_of(service)
        service.process.terminate()
        service.rest()
        assert only not in shadows()
