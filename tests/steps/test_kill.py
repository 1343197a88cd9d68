"""A run that is killed at any moment is finished by the next one, as if nothing had been."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
import warnings
from pathlib import Path

import pytest

from medloop.registry.store import ModelStore
from tests.loop_project import new_table, run_loop, small_rows

SAME = ("splits.parquet", "edition.json", "trained/history.csv", "bundle/model.onnx", "report/scores.json")


def begin(folder: Path) -> int:
    """Run the loop in a process of its own, which has the libraries loaded already; its number."""
    with warnings.catch_warnings():
        # From Python 3.12 on a fork beside other threads is warned of; this child only runs until it is killed.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            run_loop(folder)
        finally:
            os._exit(0)
    return child


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of which nothing was run."""
    return new_table(tmp_path_factory.mktemp("kill") / "fresh", small_rows(150))


@pytest.fixture(scope="module")
def whole(fresh: Path) -> tuple[Path, float]:
    """The same project, run without being killed, and how long that took."""
    folder = fresh.with_name("whole")
    shutil.copytree(fresh, folder)
    run_loop(folder)
    shutil.rmtree(folder / "work")
    shutil.rmtree(folder / "models")
    started = time.perf_counter()
    run_loop(folder)
    return folder, time.perf_counter() - started


def kill_and_go_on(fresh: Path, whole: Path, folder: Path, seconds: float) -> None:
    shutil.copytree(fresh, folder)
    child = begin(folder)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    run_loop(folder)
    for name in SAME:
        assert (folder / "work" / name).read_bytes() == (whole / "work" / name).read_bytes(), name
    store = ModelStore(folder / "models")
    champion = store.champion()
    assert champion is not None
    assert store.verify() == []
    assert [version.number for version in store.versions()] == [champion.version] == [1]
    assert not [path for path in folder.rglob("*.partial") if path.is_dir()]
    assert all(done.skipped for name, done in run_loop(folder).items() if name not in ("gate", "register"))


@pytest.mark.parametrize("seed", range(3))
def test_the_next_run_finishes_what_was_killed(
    fresh: Path, whole: tuple[Path, float], tmp_path: Path, seed: int
) -> None:
    folder, seconds = whole
    moment = (seed + random.Random(seed).random()) / 3  # noqa: S311 - early, in the middle, late
    kill_and_go_on(fresh, folder, tmp_path / "killed", moment * seconds)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(200))
def test_the_next_run_finishes_what_was_killed_often(
    fresh: Path, whole: tuple[Path, float], tmp_path: Path, seed: int
) -> None:
    folder, seconds = whole
    kill_and_go_on(fresh, folder, tmp_path / "killed", random.Random(seed).uniform(0, seconds))  # noqa: S311
