"""Backups made while the service answers, of SQLite and PostgreSQL, restored elsewhere."""

from __future__ import annotations

import json
import sqlite3
import stat
import threading
from contextlib import closing
from pathlib import Path

import pytest
from sklearn.datasets import load_breast_cancer

from medloop.feedback import open_feedback
from medloop.feedback.journal.head import read_head
from medloop.settings import FeedbackSettings
from tests.feedback.answers import picture
from tests.loop_project import medloop
from tests.serve.processes import Running, serving
from tests.steps.stored_project import answer, contents, done, killed, kinds, make_stored
from tests.upgrade.conftest import old

__all__ = ["old"]

FEATURES = load_breast_cancer().data[0].tolist()


@pytest.fixture
def stored(tmp_path: Path, golden: Path) -> Path:
    return make_stored(tmp_path / "stored", golden)


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    (tmp_path / "fresh").mkdir()
    return tmp_path / "fresh"


class Predicting:
    """Asks the service for one answer after another until it ends."""

    def __init__(self, service: Running) -> None:
        self.ids: list[str] = []
        self.failed: list[object] = []
        self._service = service
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Predicting:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _ask(self) -> None:
        with self._service.client() as client:
            while not self._ended.is_set():
                said = client.post("/predict", json={"features": FEATURES})
                if said.status_code == 200:
                    self.ids.append(said.json()["id"])
                else:
                    self.failed.append(said.text)


def test_backups_of_a_service_that_answers_are_restored_elsewhere(project: Path, fresh: Path, tmp_path: Path) -> None:
    (first,) = answer(project, 1)
    with serving(cwd=project, is_first=True) as service:
        with Predicting(service) as predicting:
            for number in range(5):
                before = list(predicting.ids)
                made = json.loads(done("backup", tmp_path / f"backup{number}", "--json", cwd=project).out)
        assert predicting.failed == []
        assert "in use" in done("restore", tmp_path / "backup0", "--replace", cwd=project, code=2).err
        key = service.key
    for number in range(4):
        other = tmp_path / f"fresh{number}"
        other.mkdir()
        done("restore", tmp_path / f"backup{number}", cwd=other)
        done("journal", "verify", cwd=other)
    said = done("restore", tmp_path / "backup4", cwd=fresh).out
    assert "entries verified" in said
    assert "1 versions verified" in said
    done("journal", "verify", "--noted", made["journal"], cwd=fresh)
    for one in (before[0], before[-1]):
        done("journal", "replay", one, cwd=fresh)
    done("models", "verify", cwd=fresh)
    with closing(open_feedback(FeedbackSettings(), root=fresh)) as feedback:
        kept = feedback.prediction(first)
        assert kept is not None
        assert feedback.input_of(kept) == picture(1).input_png
    with serving(cwd=fresh, is_first=False) as service, service.client(key) as client:
        assert client.post("/predict", json={"features": FEATURES}).status_code == 200
        assert {client.get(f"/v1/predictions/{one}").status_code for one in before} == {200}


def test_a_backup_is_private_whole_and_says_what_it_holds(stored: Path, tmp_path: Path) -> None:
    (stored / "secrets.yaml").write_text("patient_key: abc\n", "utf-8")
    place = tmp_path / "backup"
    said = done("backup", place, cwd=stored).out
    assert "patient data" in said
    assert "left out: secrets.yaml" in said
    modes = {stat.S_IMODE(path.stat().st_mode) for path in place.rglob("*") if path.is_file()}
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert modes == {0o600}
    names = set(contents(place))
    assert {
        *("manifest.json", "feedback/feedback.db", "feedback/feedback.key", "feedback/feedback.head"),
        *("models/champion.json", "models/versions/1/bundle/model.onnx", "project/config.yaml", "work/ledger.jsonl"),
    } <= names
    assert "project/secrets.yaml" not in names
    assert sum(name.startswith("inputs/") for name in names) == 3
    manifest = json.loads((place / "manifest.json").read_text("utf-8"))
    assert manifest["database"]["form"]
    assert set(manifest["files"]) == names - {"manifest.json"}
    done("backup", tmp_path / "second", "--secrets", cwd=stored)
    assert (tmp_path / "second" / "project" / "secrets.yaml").read_text("utf-8") == "patient_key: abc\n"


def test_a_backup_replaces_nothing(stored: Path, tmp_path: Path) -> None:
    done("backup", tmp_path / "backup", cwd=stored)
    before = contents(tmp_path / "backup")
    assert "already exists" in done("backup", tmp_path / "backup", cwd=stored, code=2).err
    assert contents(tmp_path / "backup") == before


def test_a_backup_that_was_killed_is_whole_or_not_there(stored: Path, fresh: Path, tmp_path: Path) -> None:
    place, renames = tmp_path / "backup", 0
    while killed("backup", place, cwd=stored, renames=renames):
        renames += 1
        assert not place.exists() or renames > 2
    assert renames >= 2
    done("restore", place, cwd=fresh)
    assert not list(tmp_path.glob(".backup*"))


def test_there_is_no_backup_of_nothing(fresh: Path, tmp_path: Path) -> None:
    assert "Nothing to back up" in done("backup", tmp_path / "backup", cwd=fresh, code=2).err
    assert not (tmp_path / "backup").exists()


def test_what_waits_in_the_spool_is_restored_and_delivered(stored: Path, fresh: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(stored / "feedback.db", isolation_level=None)) as other:
        feedback = open_feedback(FeedbackSettings(), root=stored)
        other.execute("BEGIN IMMEDIATE")
        waiting = picture(4)
        feedback.record([waiting])
        feedback.close()
        done("backup", tmp_path / "backup", cwd=stored)
    assert list((tmp_path / "backup" / "feedback" / "spool").glob("*.jsonl"))
    done("restore", tmp_path / "backup", cwd=fresh)
    assert kinds(fresh) == ["prediction", "prediction", "prediction", "prediction", "restore"]
    with closing(open_feedback(FeedbackSettings(), root=fresh)) as feedback:
        assert feedback.prediction(waiting.prediction.id) is not None
    done("journal", "verify", cwd=fresh)


def test_an_older_database_is_restored_as_it_is(old: Path, fresh: Path, tmp_path: Path) -> None:
    done("backup", tmp_path / "backup", cwd=old / "table")
    # What is said of the store's old signatures is not what this is about.
    assert "run `medloop db upgrade`" in medloop("restore", str(tmp_path / "backup"), cwd=fresh).out
    done("db", "upgrade", cwd=fresh)
    done("journal", "verify", cwd=fresh)
    for prediction in json.loads((old / "table" / "expected.json").read_text("utf-8"))["predictions"]:
        done("journal", "replay", prediction["id"], cwd=fresh)


def test_an_edit_before_the_backup_is_found_after_the_restore(stored: Path, fresh: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(stored / "feedback.db")) as connection:
        connection.execute("delete from journal where seq = 3")
        connection.execute("update journal_head set seq = 2, hash = (select hash from journal where seq = 2)")
        connection.commit()
    assert read_head(stored / "feedback.head") is not None
    done("backup", tmp_path / "backup", cwd=stored)
    assert "journal" in done("restore", tmp_path / "backup", cwd=fresh, code=2).err


def test_a_database_that_is_gone_is_no_backup(golden: Path, tmp_path: Path) -> None:
    folder = make_stored(tmp_path / "project", golden)
    for gone in (lambda path: path.unlink(), lambda path: path.write_bytes(b"")):
        gone(folder / "feedback.db")
        said = done("backup", tmp_path / "backup", cwd=folder, code=2)
        assert "feedback.head" in said.err
        assert not (tmp_path / "backup").exists()


@pytest.mark.parametrize(
    "words", [("keys", "list"), ("db", "upgrade"), ("journal", "verify"), ("corrections", "list")], ids=" ".join
)
def test_a_command_that_reads_begins_no_journal(words: tuple[str, ...], tmp_path: Path) -> None:
    assert "There is no feedback database feedback.db here" in done(*words, cwd=tmp_path, code=2).err
    assert list(tmp_path.iterdir()) == []
