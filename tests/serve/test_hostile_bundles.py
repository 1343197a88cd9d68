"""A bundle that is sealed, and even pointed to, but does not work: nothing promotes it, and the old one serves on."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medloop.registry.store import ModelStore
from tests.bundle.verify import hostile_models as hostile
from tests.loop_project import medloop
from tests.registry.versions import planted, point_to
from tests.serve.processes import Running
from tests.serve.test_lifecycle import BODY, Callers, metrics, serves, service, settings, store, wait_until

__all__ = ["service", "settings", "store"]

# The limit is 10 s; a busy machine may take longer to get there.
LIMIT = 60.0
EDITS = (hostile.nan_weights, hostile.endless_loop, hostile.memory_bomb, hostile.external_data)


@pytest.fixture
def database() -> str:
    return "sqlite:///feedback.db"


@pytest.mark.parametrize("edit", EDITS)
def test_promote_refuses_it_and_the_champion_stays(
    project: Path, golden: Path, tmp_path: Path, edit: hostile.Edit
) -> None:
    models = ModelStore(project / "models")
    planted(models, 2, hostile.altered(golden, tmp_path / "bundle", edit))
    started = time.monotonic()
    ended = medloop("models", "promote", "2", cwd=project)
    assert time.monotonic() - started < LIMIT
    assert ended.code == 2, ended.out
    assert "Traceback" not in ended.err
    assert json.loads((project / "models" / "champion.json").read_text("utf-8"))["version"] == 1


def test_register_refuses_it(golden: Path, tmp_path: Path, project: Path) -> None:
    work, models = project / "work", project / "models"
    bundle = hostile.altered(work / "bundle", tmp_path / "bundle", hostile.external_data_of_any)
    ready = planted(ModelStore(tmp_path / "models"), 1, bundle)
    for path in (work / "bundle").iterdir():
        path.write_bytes((bundle / path.name).read_bytes())
    (work / "verdict.json").write_bytes((ready / "verdict.json").read_bytes())
    assert medloop("register", cwd=project).code == 2
    assert [path.name for path in (models / "versions").glob("[0-9]*")] == ["1"]


def test_a_service_pointed_to_it_keeps_the_previous_version(
    service: Running, store: ModelStore, golden: Path, tmp_path: Path
) -> None:
    with service.client() as client, Callers(service) as callers:
        for number, edit in enumerate(EDITS, start=1):
            planted(store, 3 + number, hostile.altered(golden, tmp_path / f"bad {number}", edit))
            point_to(store, 3 + number)
            refused = f'outcome="refused"}} {number}.0'
            wait_until(lambda refused=refused: refused in metrics(service), LIMIT)
            assert serves(client) == "1"
            assert client.post("/predict", json=BODY).json()["version"] == "1"
            assert client.get("/readyz").status_code == 200
        point_to(store, 2)
        wait_until(lambda: serves(client) == "2")
    assert callers.failures == []


@pytest.mark.parametrize("edit", EDITS)
def test_a_service_does_not_start_with_it(golden: Path, tmp_path: Path, edit: hostile.Edit) -> None:
    bundle = hostile.altered(golden, tmp_path / "bundle", edit)
    command = [sys.executable, "-m", "medloop", "serve", "--port", "0", "--no-auth", "--bundle", str(bundle)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_an_older_pointer_is_refused_once_and_the_champion_stays_active(service: Running, store: ModelStore) -> None:
    older = (store.folder / "champion.json").read_bytes()
    store.promote(2, by="me")
    with service.client() as client:
        wait_until(lambda: serves(client) == "2")
        (store.folder / "champion.json").write_bytes(older)
        wait_until(lambda: 'outcome="refused"} 1.0' in metrics(service))
        time.sleep(1.0)
        assert 'outcome="refused"} 1.0' in metrics(service)
        assert (serves(client), client.post("/predict", json=BODY).json()["version"]) == ("2", "2")
        # The way back is a change as well, with a pointer of its own.
        assert store.rollback(by="me").version == 1
        wait_until(lambda: serves(client) == "1")
    service.process.terminate()
    assert service.rest().count("OlderPointer") == 1
