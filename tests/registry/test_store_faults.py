"""Several processes at once, and processes that are killed: the store is never half changed."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import pytest

from medloop.registry.follow import load_champion
from medloop.registry.store import ModelStore, read_verdict
from medloop.storage import file_lock
from tests.registry.versions import bundle_like, report_of, verdict_on

PROMOTE = """
import sys
from pathlib import Path
from medloop.registry.store import ModelStore
store, number, times = ModelStore(Path(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3])
print("begun", flush=True)
for _ in range(times):
    store.promote(number, by=f"process {number}")
"""

# Registers the same bytes under new verdicts, promotes them and goes back, until it is killed.
WORK = """
import sys, itertools
from dataclasses import replace
from pathlib import Path
from medloop.case import RuleOutcome
from medloop.registry.store import ModelStore, read_verdict
store, bundle, report = ModelStore(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3])
verdict = read_verdict(Path(sys.argv[4]))
print("begun", flush=True)
for number in itertools.count():
    rule = replace(verdict.rules[0], needed=f"{sys.argv[5]} {number}")
    store.promote(store.register(bundle, report, replace(verdict, rules=(rule,))).number, by="x")
    store.rollback(by="x")
"""


def started(script: str, *words: object) -> subprocess.Popen[str]:
    """A process that has come to its work."""
    command = [sys.executable, "-c", script, *map(str, words)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


@pytest.fixture
def store(tmp_path: Path, golden: Path) -> ModelStore:
    """Two versions that may serve; the first does."""
    store = ModelStore(tmp_path / "models")
    for name in ("one", "two"):
        bundle = bundle_like(golden, tmp_path / name, name=name)
        store.register(bundle, report_of(bundle, tmp_path / f"{name}-report"), verdict_on(bundle))
    store.promote(1, by="me")
    return store


def assert_whole(store: ModelStore) -> None:
    """The pointer names a version whose bytes are right, and the mirrors can be brought in line with it."""
    champion = store.champion()
    assert champion is not None
    assert store.verify() == []
    assert str((store.folder / "latest").readlink()) == f"versions/{champion.version}"
    assert store.version(champion.version).bundle == champion.bundle
    assert not list(store.versions_folder.glob("[0-9]*/**/.*"))


def test_two_promotions_at_once_leave_one_champion_and_readers_see_only_whole_states(store: ModelStore) -> None:
    processes = [started(PROMOTE, store.folder, number, 40) for number in (1, 2)]
    seen = set()
    while any(process.poll() is None for process in processes):
        champion = store.champion()
        assert champion is not None
        assert (store.folder / "latest" / "version.json").is_file()
        seen.add((champion.version, champion.by))
    for process in processes:
        assert process.communicate() is not None
        assert process.returncode == 0
    last = store.champion()
    assert last is not None
    assert {last.version, last.previous} == {1, 2}
    assert seen <= {(1, "me"), (1, "process 1"), (2, "process 2")}
    assert_whole(store)


def kill_and_go_on(store: ModelStore, folder: Path, seed: int) -> None:
    """Register, promote and roll back until the kill; then everything is whole, loads and goes on."""
    verdict = store.version(2).folder / "verdict.json"
    process = started(WORK, store.folder, folder / "two", folder / "two-report", verdict, seed)
    time.sleep(random.Random(seed).uniform(0.0, 0.15))  # noqa: S311 - a moment to kill at
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert_whole(store)
    champion = store.champion()
    assert champion is not None
    served = load_champion(ModelStore(store.folder))
    assert (served.hash, served.version) == (champion.bundle, str(champion.version))
    numbers = [version.number for version in store.versions()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert store.promote(1, by="me").version == 1
    assert_whole(store)


@pytest.mark.parametrize("seed", range(10))
def test_a_kill_at_any_moment_leaves_a_store_that_serves_and_goes_on(
    store: ModelStore, tmp_path: Path, seed: int
) -> None:
    kill_and_go_on(store, tmp_path, seed)
    bundle, verdict = store.version(2).folder / "bundle", read_verdict(store.version(2).folder / "verdict.json")
    again = store.register(bundle, store.version(2).folder / "report", verdict)
    assert asdict(again) == asdict(store.version(2))


@pytest.mark.soak
def test_two_hundred_kills_leave_a_store_that_serves_and_goes_on(store: ModelStore, tmp_path: Path) -> None:
    for seed in range(200):
        kill_and_go_on(store, tmp_path, seed)


def test_a_promotion_waits_for_another_to_end(store: ModelStore) -> None:
    with file_lock(store.folder / ".lock"):
        process = started(PROMOTE, store.folder, 2, 1)
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.2)
        assert store.champion() == ModelStore(store.folder).champion()
        assert getattr(store.champion(), "version", None) == 1
    process.communicate()
    assert getattr(store.champion(), "version", None) == 2
