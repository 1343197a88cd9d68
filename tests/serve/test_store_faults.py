"""Faults of what the answers are written to: said by /readyz, nothing lost, and over by themselves when they end."""

from __future__ import annotations

import json
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from medloop.bundle.predictor import Predictor
from medloop.feedback import open_feedback
from medloop.settings import FeedbackSettings
from tests.serve.conftest import served
from tests.serve.processes import Running, serving
from tests.serve.test_lifecycle import wait_until

BODY = {"features": [50, 10.0, 1.0, 0, "left", "I"]}
DATABASE = ("feedback.db", "feedback.db-wal", "feedback.db-shm")


def ask(client: httpx.Client) -> str:
    """The id of an answer that the service says is stored."""
    answer = client.post("/predict", json=BODY)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def message(client: Any) -> str:
    """Why the service is not ready; nothing while it is."""
    answer = client.get("/readyz")
    return "" if answer.status_code == 200 else str(answer.json()["message"])


def stored(root: Path, ids: list[str]) -> list[str]:
    """What is wrong with the journal, once it is known that all of these answers are stored."""
    with closing(open_feedback(FeedbackSettings(), root=root)) as feedback:
        assert all(feedback.prediction(name) for name in ids)
        return feedback.journal.verify()


def copy_database(root: Path, to: Path) -> None:
    """A consistent copy of the database and of its head, as a backup makes it."""
    with closing(sqlite3.connect(root / "feedback.db")) as source, closing(sqlite3.connect(to / "feedback.db")) as copy:
        source.backup(copy)
    shutil.copy(root / "feedback.head", to)


def move_away(root: Path, to: Path) -> None:
    for name in DATABASE:
        if (root / name).exists():
            (root / name).rename(to / name)


@pytest.fixture
def aside(tmp_path: Path) -> Path:
    folder = tmp_path / "aside"
    folder.mkdir()
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


@pytest.fixture
def service(golden: Path, root: Path) -> Iterator[Running]:
    with serving("--bundle", golden, cwd=root) as service:
        yield service


def test_answers_wait_in_the_spool_while_the_database_file_is_gone(service: Running, root: Path, aside: Path) -> None:
    with service.client() as client:
        ids = [ask(client)]
        move_away(root, aside)
        ids += [ask(client)]
        assert "missing" in message(client)
        ids += [ask(client) for _ in range(3)]
        assert not (root / "feedback.db").exists()
        move_away(aside, root)
        wait_until(lambda: message(client) == "")
        ids += [ask(client)]
        assert client.get(f"/v1/predictions/{ids[1]}").status_code == 200
    service.process.kill()
    assert "Traceback" not in service.rest()
    assert stored(root, ids) == []


def test_an_idle_service_notices_that_the_database_file_is_gone(service: Running, root: Path, aside: Path) -> None:
    with service.client() as client:
        move_away(root, aside)
        wait_until(lambda: "missing" in message(client))


def test_a_database_replaced_by_an_older_one_is_not_used_before_a_restart(
    golden: Path, root: Path, aside: Path
) -> None:
    with serving("--bundle", golden, cwd=root) as service, service.client() as client:
        first = ask(client)
        copy_database(root, aside)
        lost = ask(client)
        for name in DATABASE:
            (root / name).unlink(missing_ok=True)
        shutil.copy(aside / "feedback.db", root)
        last = ask(client)
        wait_until(lambda: "older than what this service wrote" in message(client))
        last = [last, ask(client)]
        assert client.get(f"/v1/predictions/{last[0]}").status_code == 404
        service.process.kill()
    with serving("--bundle", golden, cwd=root, is_first=False) as service, service.client(client_key(client)) as again:
        wait_until(lambda: message(again) == "" and again.get(f"/v1/predictions/{last[1]}").status_code == 200)
        assert again.get(f"/v1/predictions/{lost}").status_code == 404
    assert any("reports on the journal before it: it ended at" in one for one in stored(root, [first, *last]))


def test_the_right_database_is_used_again_after_an_older_one(service: Running, root: Path, aside: Path) -> None:
    with service.client() as client:
        ids = [ask(client)]
        copy_database(root, aside)
        ids += [ask(client)]
        older, right = aside / "feedback.db", aside / "right"
        right.mkdir()
        move_away(root, right)
        shutil.copy(older, root)
        ids += [ask(client)]
        wait_until(lambda: "older than what this service wrote" in message(client))
        for name in DATABASE:
            (root / name).unlink(missing_ok=True)
        move_away(right, root)
        wait_until(lambda: message(client) == "")
    service.process.kill()
    service.rest()
    assert stored(root, ids) == []


def test_predictions_survive_the_removal_of_the_write_ahead_log(service: Running, root: Path) -> None:
    with service.client() as client:
        ids = [ask(client)]
        (root / "feedback.db-wal").unlink()
        ids += [ask(client) for _ in range(20)]
        wait_until(lambda: message(client) == "")
        ids += [ask(client)]
    service.process.kill()
    service.rest()
    assert stored(root, ids) == []


def test_a_removed_journal_key_is_restored(service: Running, root: Path) -> None:
    key = root / "feedback.key"
    before = key.read_bytes()
    with service.client() as client:
        ids = [ask(client)]
        key.unlink()
        wait_until(key.exists)
        assert key.read_bytes() == before
        assert key.stat().st_mode & 0o777 == 0o600
        key.write_bytes(b"0" * 64 + b"\n")
        wait_until(lambda: "feedback.key does not hold the journal's key" in message(client))
        key.write_bytes(before)
        wait_until(lambda: message(client) == "")
    service.process.kill()
    assert stored(root, ids) == []


def test_a_new_database_is_on_disk_before_the_first_response(service: Running, root: Path, aside: Path) -> None:
    assert service.key
    service.process.kill()
    service.rest()
    shutil.copy(root / "feedback.db", aside)
    with closing(sqlite3.connect(aside / "feedback.db")) as alone:
        assert alone.execute("SELECT count(*) FROM journal_head").fetchone() == (1,)


@pytest.mark.parametrize("replacement", [b"", b"not a database at all" * 1000], ids=["empty", "garbage"])
def test_a_file_that_is_not_a_database_is_not_written_to(
    replacement: bytes, service: Running, root: Path, aside: Path
) -> None:
    with service.client() as client:
        ids = [ask(client)]
        move_away(root, aside)
        (root / "feedback.db").write_bytes(replacement)
        ids += [ask(client), ask(client)]
        assert message(client)
        for name in DATABASE:
            (root / name).unlink(missing_ok=True)
        move_away(aside, root)
        wait_until(lambda: message(client) == "")
    service.process.kill()
    assert "Traceback" not in service.rest()
    assert stored(root, ids) == []


def start(golden: Path, root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "medloop", "serve", "--port", "0", "--bundle", str(golden)]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=False)


def test_a_service_does_not_replace_a_lost_database(golden: Path, root: Path, aside: Path) -> None:
    with serving("--bundle", golden, cwd=root) as service, service.client() as client:
        ids = [ask(client)]
        copy_database(root, aside)
        for name in DATABASE:
            (root / name).unlink(missing_ok=True)
        ids += [ask(client)]
        service.process.kill()
        service.rest()
    refused = start(golden, root)
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert "backup" in refused.stderr
    assert "feedback.head" in refused.stderr
    assert "ml_" not in refused.stdout + refused.stderr
    assert not (root / "feedback.db").exists()
    shutil.copy(aside / "feedback.db", root)
    with serving("--bundle", golden, cwd=root, is_first=False) as service, service.client(client_key(client)) as again:
        assert message(again) == ""
        ids += [ask(again)]
    assert stored(root, ids) == []


def client_key(client: httpx.Client) -> str:
    return client.headers["authorization"].partition(" ")[2]


def test_a_new_journal_begins_if_the_old_head_was_moved_away(golden: Path, root: Path, aside: Path) -> None:
    with serving("--bundle", golden, cwd=root) as service, service.client() as client:
        ask(client)
    move_away(root, aside)
    (root / "feedback.head").rename(aside / "feedback.head")
    with serving("--bundle", golden, cwd=root, is_first=True) as service, service.client() as client:
        assert service.key
        ask(client)


def test_no_admin_key_is_printed_if_the_keys_were_removed(golden: Path, root: Path) -> None:
    with serving("--bundle", golden, cwd=root) as service, service.client() as client:
        ask(client)
    with closing(sqlite3.connect(root / "feedback.db")) as connection:
        connection.execute("DELETE FROM keys")
        connection.commit()
    refused = start(golden, root)
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert "medloop keys create" in refused.stderr
    assert "ml_" not in refused.stdout + refused.stderr


@contextmanager
def full_disk(process: subprocess.Popen[str]) -> Iterator[None]:
    """The process can write to no file, as on a full disk."""
    _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, hard))


def test_a_full_disk_is_reported_with_retry_after(service: Running, root: Path) -> None:
    with service.client() as client:
        ids = [ask(client)]
        with full_disk(service.process):
            for _ in range(3):
                refused = client.post("/predict", json=BODY)
                assert refused.status_code == 503, refused.text
                assert int(refused.headers["Retry-After"]) > 0
                assert str(root) not in refused.text
            wait_until(lambda: message(client) != "")
            assert client.get(f"/v1/predictions/{ids[0]}").status_code == 200
        wait_until(lambda: message(client) == "")
        ids += [ask(client)]
    service.process.kill()
    assert "Traceback" not in service.rest()
    assert stored(root, ids) == []


def spoil(folder: Path) -> Callable[[], None]:
    """A file stands where the folder of inputs should be."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_bytes(b"")
    return folder.unlink


def test_inputs_that_cannot_be_stored_are_reported(
    image_predictor: Predictor, tmp_path: Path, scans: list[bytes]
) -> None:
    with served(image_predictor, tmp_path) as client:
        repair = spoil(tmp_path / "work" / "inputs")
        for _ in range(2):
            refused = client.post("/predict", files={"file": ("a.png", scans[0])})
            assert refused.status_code == 503, refused.text
            assert int(refused.headers["Retry-After"]) > 0
            assert refused.json()["error"] == "FeedbackAway"
        assert "inputs" in message(client)
        repair()
        wait_until(lambda: message(client) == "")
        assert client.post("/predict", files={"file": ("a.png", scans[0])}).status_code == 200


def test_reasons_contain_no_path(service: Running, root: Path, aside: Path) -> None:
    with service.client() as client:
        move_away(root, aside)
        ask(client)
        text = json.dumps(client.get("/readyz").json())
        assert str(root) not in text
        assert "Traceback" not in text
