"""The figures: of one process, and of several that are asked one at a time but answer for all."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from medloop.feedback import Status
from medloop.serve.telemetry.metrics import Metrics
from tests.serve.processes import Running, serving
from tests.serve.test_lifecycle import BODY, wait_until

REQUESTS = 60
QUIET = Status(away=False, queued=0, spooled_bytes=0, room_bytes=1)


def figures_in(text: str) -> dict[tuple[str, ...], float]:
    """Each sample by its name and the values of its labels."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def figures_of(service: Running) -> dict[tuple[str, ...], float]:
    with service.client() as client:
        return figures_in(client.get("/metrics").text)


def workers_of(service: Running) -> set[int]:
    """The processes that serve: started by the service and neither its shadow nor a resource tracker."""
    task = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children")
    children = {int(word) for word in task.read_text().split()}
    found = set()
    for child in children:
        # One that was killed may be gone by now.
        with suppress(FileNotFoundError, ProcessLookupError):
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.add(child)
    return found


def ask(service: Running, count: int) -> None:
    for _ in range(count):
        # A connection each, so that each may reach another process.
        with service.client() as client:
            assert client.post("/predict", json=BODY).status_code == 200


def always(service: Running, holds: Callable[[dict[tuple[str, ...], float]], bool]) -> bool:
    """Whichever process is asked."""
    return all(holds(figures_of(service)) for _ in range(10))


def test_two_processes_count_every_request_once(golden: Path, tmp_path: Path) -> None:
    with serving("--bundle", golden, "--workers", 2, cwd=tmp_path) as service:
        ask(service, REQUESTS)
        counted = ("medloop_requests_total", "POST", "/predict", "200")
        confidences = ("medloop_confidence_count",)
        assert always(service, lambda found: found[counted] == found[confidences] == REQUESTS)
        models = [value for name, value in figures_of(service).items() if name[0] == "medloop_model"]
        assert models == [1.0]
        # Each process shows its own now and then.
        wait_until(lambda: figures_of(service)["medloop_requests_in_flight",] == 0)
        killed = min(workers_of(service))
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: len(workers_of(service) - {killed}) == 2)
        ask(service, 10)
        assert always(service, lambda found: found[counted] == REQUESTS + 10)
        assert not any("pid" in line for line in plain_text(service).splitlines())
        service.process.terminate()
        service.rest()


def plain_text(service: Running) -> str:
    with service.client() as client:
        return client.get("/metrics").text


def test_one_process_writes_no_files_and_reports_only_the_active_version() -> None:
    metrics = Metrics()
    assert metrics.folder is None
    for version in ("1", "2"):
        metrics.set_model_info(name="discs", version=version, bundle="0" * 64)
    metrics.set_gauges(in_flight=3, feedback=QUIET)
    metrics.set_shadow({"champion": "2", "challenger": "3", "scored": 10, "agreement": 0.9, "behind": 0})
    found = figures_in(metrics.text().decode())
    assert [name for name in found if name[0] == "medloop_model"] == [("medloop_model", "0" * 12, "discs", "2")]
    assert found["medloop_requests_in_flight",] == 3
    assert found["medloop_shadow_agreement", "3", "2"] == 0.9
    metrics.set_shadow({})
    assert not any(name[0].startswith("medloop_shadow") for name in figures_in(metrics.text().decode()))
