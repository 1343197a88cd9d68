"""Under load, with versions swapped and decoders killed: no failed request, nothing lost, and no more memory."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from medloop.registry.store import ModelStore
from medloop.settings import FeedbackSettings
from tests.bundle.image_bundles import SIZE
from tests.decode.dicom_files import dicom, ramp
from tests.serve.processes import Running
from tests.serve.test_lifecycle import ON_BOTH, Callers, following, in_the_journal, register

PATIENCE_S = 900.0


@pytest.fixture
def store(image_bundle: Path, tmp_path: Path) -> ModelStore:
    """Two versions for images, of which the first serves."""
    store = ModelStore(tmp_path / "models")
    for name in ("one", "two"):
        register(store, image_bundle, name)
    store.promote(1, by="me")
    return store


@pytest.fixture
def requests(scans: list[bytes]) -> list[dict[str, Any]]:
    """Pictures, and now and then what only a decoder's process may read."""
    scan = dicom(ramp(SIZE, SIZE))
    return [{"files": {"file": ("x", data)}} for data in (*scans[:6], scan)]


def processes() -> list[tuple[int, int, int]]:
    """Id, parent and kibibytes of every process."""
    told = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,rss="], capture_output=True, text=True, check=True).stdout
    return [(int(pid), int(parent), int(size)) for pid, parent, size in map(str.split, told.splitlines())]


def kill_decoders(service: Running) -> int:
    """How many were killed; those of a version that was replaced may end by themselves meanwhile."""
    killed = 0
    for decoder in [pid for pid, parent, _ in processes() if parent == service.process.pid]:
        with suppress(ProcessLookupError):
            os.kill(decoder, signal.SIGKILL)
            killed += 1
    return killed


def disturb(service: Running, callers: Callers, seconds: float, *, swap_s: float, kill_s: float) -> list[int]:
    """Promote versions in turn and kill decoders for some seconds; return the service's memory over time.

    On a busy machine it goes on until each version has answered and decoders were killed twice.
    """
    started = swapped = killed = time.monotonic()
    version, kills, sizes = 1, 0, []
    with service.client() as client:
        while (now := time.monotonic()) < started + seconds or not _has_seen_enough(callers, kills, now - started):
            if now > swapped + swap_s and callers.answers and callers.answers[-1]["version"] == str(version):
                swapped, version = now, 3 - version
                assert client.post(f"/v1/models/{version}/promote").status_code == 200
            if now > killed + kill_s:
                killed, kills = now, kills + kill_decoders(service)
            sizes += [size for pid, _, size in processes() if pid == service.process.pid]
            time.sleep(0.1)
    return sizes


def _has_seen_enough(callers: Callers, kills: int, seconds: float) -> bool:
    assert seconds < PATIENCE_S, "a version did not answer, or no decoder could be killed"
    return kills > 1 and {answer["version"] for answer in callers.answers} == {"1", "2"}


def growth(sizes: list[int]) -> float:
    """How much larger it is at the end than after the first third, when all has been loaded once."""
    third = len(sizes) // 3
    return statistics.median(sizes[-third:]) / statistics.median(sizes[third : 2 * third]) - 1


def check(store: ModelStore, settings: FeedbackSettings, requests: list[dict[str, Any]], **times: float) -> float:
    """How much the memory grew."""
    with following(store, settings) as service:
        with Callers(service, requests) as callers:
            sizes = disturb(service, callers, **times)
        service.process.terminate()
        said = service.rest()
    assert [line for line in said.splitlines() if "bug" in line or "Traceback" in line] == []
    assert callers.failures == []
    assert in_the_journal(store.folder.parent, callers.answers, settings)
    return growth(sizes)


@ON_BOTH
def test_memory_is_stable_under_load_for_seconds(
    store: ModelStore, database: str, requests: list[dict[str, Any]]
) -> None:
    seconds = 7.0 if database.startswith("sqlite") else 6.0
    settings = FeedbackSettings(url=database)
    assert check(store, settings, requests, seconds=seconds, swap_s=1.0, kill_s=1.5) < 0.1


@pytest.mark.soak
@ON_BOTH
def test_memory_is_stable_under_load_for_ten_minutes(
    store: ModelStore, database: str, requests: list[dict[str, Any]]
) -> None:
    settings = FeedbackSettings(url=database)
    assert check(store, settings, requests, seconds=600.0, swap_s=20.0, kill_s=30.0) < 0.05
