"""Restoring: what is refused, what is kept aside, and what a kill leaves is finished by the same command."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from medloop.feedback import open_feedback
from medloop.registry.store import ModelStore
from medloop.settings import FeedbackSettings
from medloop.storage import sha256_file
from tests.loop_project import made_once
from tests.steps.stored_project import answer, contents, done, killed, kinds, make_stored

# Renames of a restore over a full project: one for each file and folder that moves, and for each mark.
RENAMES = 20


@pytest.fixture(scope="module")
def backup(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup, and beside it the project it is of; not to be changed."""

    def make(folder: Path) -> None:
        folder.mkdir()
        done("backup", folder / "backup", cwd=make_stored(folder / "stored", golden))

    return made_once(tmp_path_factory, "backed_up", make) / "backup"


@pytest.fixture
def later(backup: Path, tmp_path: Path) -> Path:
    """The same project with more answers and another version than the backup has."""
    folder = tmp_path / "later"
    shutil.copytree(backup.parent / "stored", folder, symlinks=True)
    answer(folder, 4, 5)
    shutil.copytree(folder / "models" / "versions" / "1", folder / "models" / "versions" / "2")
    return folder


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    (tmp_path / "fresh").mkdir()
    return tmp_path / "fresh"


def answers_in(file: Path) -> int:
    """How many answers a database's file holds."""
    with closing(sqlite3.connect(file)) as connection:
        return int(connection.execute("select count(*) from predictions").fetchone()[0])


def edit(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"?")


DAMAGE: dict[str, Callable[[Path], None]] = {
    "an edited file": lambda place: edit(place / "feedback" / "feedback.db"),
    "a missing file": lambda place: (place / "models" / "champion.json").unlink(),
    "a file too many": lambda place: (place / "models" / "more.json").touch(),
    "a link": lambda place: (place / "inputs" / "link").symlink_to("/etc/passwd"),
    "a cut manifest": lambda place: edit(place / "manifest.json"),
    "a manifest of something else": lambda place: (place / "manifest.json").write_text("[1]", "utf-8"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_backup_changes_nothing(
    backup: Path, fresh: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    place = Path(shutil.copytree(backup, tmp_path / "copy"))
    damage(place)
    done("restore", place, cwd=fresh, code=2)
    assert list(fresh.iterdir()) == []


@pytest.mark.parametrize("found", [{"format": 99}, {"database": {"kind": "sqlite", "form": "9999"}}])
def test_a_backup_of_a_newer_medloop_is_refused(
    backup: Path, fresh: Path, tmp_path: Path, found: dict[str, object]
) -> None:
    place = Path(shutil.copytree(backup, tmp_path / "copy"))
    manifest = json.loads((place / "manifest.json").read_text("utf-8"))
    changed = {name: {**manifest[name], **one} if isinstance(one, dict) else one for name, one in found.items()}
    (place / "manifest.json").write_text(json.dumps({**manifest, **changed}), "utf-8")
    assert "Install" in done("restore", place, cwd=fresh, code=2).err
    assert list(fresh.iterdir()) == []


def test_what_is_no_backup_is_refused(fresh: Path) -> None:
    assert "not a backup" in done("restore", fresh, cwd=fresh, code=2).err


def test_a_project_that_is_not_empty_is_left_alone(backup: Path, later: Path) -> None:
    before = contents(later)
    said = done("restore", backup, cwd=later, code=2)
    assert "already has" in said.err
    assert "--replace" in said.err
    assert contents(later) == before


def test_what_is_replaced_is_kept_aside(backup: Path, later: Path) -> None:
    (later / "feedback.head").unlink()
    before = contents(later)
    said = json.loads(done("restore", backup, "--replace", "--json", cwd=later).out)
    aside = [Path(one) for one in said["aside"]]
    assert sorted(one.parent.name for one in aside) == ["later", "models"]
    database, models = sorted(aside, key=lambda one: one.parent.name == "models")
    assert answers_in(database / "feedback.db") == 5
    assert contents(database)["feedback.key"] == before["feedback.key"]
    assert "models/versions/2/version.json" in before
    assert contents(models)["versions/2/version.json"] == before["models/versions/2/version.json"]
    assert all((one / ".gitignore").read_text("utf-8") == "*\n" for one in aside)
    assert [version.number for version in ModelStore(later / "models").versions()] == [1]
    assert kinds(later) == ["prediction", "prediction", "prediction", "restore"]
    assert len(list((later / "work" / "inputs").glob("*/*.png"))) == 5


def test_a_head_that_knows_of_more_stays_and_raises_the_alarm(backup: Path, later: Path) -> None:
    said = done("restore", backup, "--replace", cwd=later, code=2)
    assert "it ended at entry" in said.err
    assert kinds(later)[-2:] == ["alarm", "restore"]
    assert "it ended at entry" in done("journal", "verify", cwd=later, code=2).err


def test_a_head_that_an_earlier_restore_put_aside_still_raises_the_alarm(
    backup: Path, later: Path, tmp_path: Path
) -> None:
    middle = tmp_path / "middle"
    done("backup", middle, cwd=later)
    answer(later, 6, 7)
    done("restore", backup, "--replace", cwd=later, code=2)
    # Had the first one hidden it, the loss of two answers would show nowhere.
    assert "it ended at entry 7" in done("restore", middle, "--replace", cwd=later, code=2).err
    assert "alarm" in kinds(later)


OUTSIDE = {
    "the database": {"feedback": {"url": "sqlite:///{folder}/feedback.db"}},
    "a server's database": {"feedback": {"url": "postgresql://user@nowhere.invalid/name"}},
    "the head": {"feedback": {"head": "{folder}/copy.head"}},
    "the inputs": {"feedback": {"inputs": "../inputs"}},
    "the model store": {"models": "{folder}/models"},
    "the mirror": {"mirror": "s3://bucket/models"},
}


@pytest.mark.parametrize("settings", OUTSIDE.values(), ids=OUTSIDE)
def test_a_drill_elsewhere_touches_nothing_of_the_project_that_was_backed_up(
    backup: Path, fresh: Path, tmp_path: Path, settings: dict[str, object]
) -> None:
    place = Path(shutil.copytree(backup, tmp_path / "copy"))
    elsewhere = tmp_path / "elsewhere"
    config = place / "project" / "config.yaml"
    config.write_text(json.dumps(settings).replace("{folder}", str(elsewhere)), "utf-8")
    manifest = json.loads((place / "manifest.json").read_text("utf-8"))
    manifest["files"]["project/config.yaml"] = sha256_file(config)
    (place / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    said = done("restore", place, "--replace", cwd=fresh, code=2).err
    assert "points outside this folder" in said
    assert list(fresh.iterdir()) == []
    assert not elsewhere.exists()
    # Whoever has said where things shall go means it.
    shutil.copy(backup.parent / "stored" / "config.yaml", fresh)
    done("restore", place, cwd=fresh)
    assert "restore" in kinds(fresh)


def test_only_the_database_is_restored_where_that_is_asked_for(backup: Path, later: Path) -> None:
    for name in ("feedback.db", "feedback.head"):
        (later / name).unlink()
    models = contents(later / "models")
    done("restore", backup, "--only", "database", cwd=later)
    assert contents(later / "models") == models
    assert len(kinds(later)) == 4
    assert "Did you mean 'models'" in done("restore", backup, "--only", "model", cwd=later, code=2).err


def test_nothing_is_restored_beneath_an_open_database(backup: Path, later: Path) -> None:
    before = contents(later)
    with closing(open_feedback(FeedbackSettings(), root=later)):
        assert "in use" in done("restore", backup, "--replace", cwd=later, code=2).err
    assert contents(later / "models") == {
        name.removeprefix("models/"): one for name, one in before.items() if name.startswith("models/")
    }
    assert len(kinds(later)) == 5


def test_settings_that_are_there_stay(backup: Path, fresh: Path) -> None:
    (fresh / "config.yaml").write_text("feedback: {url: 'sqlite:///data/here.db'}\nmodels: store\n", "utf-8")
    said = done("restore", backup, cwd=fresh).out
    assert "config.yaml differs from" in said
    assert (fresh / "data" / "here.db").is_file()
    assert (fresh / "data" / "here.key").is_file()
    assert (fresh / "store" / "champion.json").is_file()
    done("journal", "verify", cwd=fresh)


def test_a_restore_that_was_killed_is_finished_by_the_same_command(backup: Path, later: Path, tmp_path: Path) -> None:
    (later / "feedback.head").unlink()
    kills = 0
    for renames in range(2 * RENAMES):
        folder = Path(shutil.copytree(later, tmp_path / f"killed{renames}", symlinks=True))
        if not killed("restore", backup, "--replace", cwd=folder, renames=renames):
            break
        kills += 1
        if (folder / ".restore.json").exists():
            assert "interrupted" in done("journal", "verify", cwd=folder, code=2).err
        # One that was killed while it checked what it had restored is done.
        if (folder / ".restore.json").exists() or not list(folder.glob(".before-restore-*")):
            done("restore", backup, "--replace", cwd=folder)
        done("journal", "verify", cwd=folder)
        assert kinds(folder) == ["prediction", "prediction", "prediction", "restore"]
        assert ModelStore(folder / "models").verify() == []
        assert not list(folder.rglob(".restoring"))
        assert [answers_in(file) for file in folder.glob(".before-restore-*/feedback.db")] == [5]
        assert len(list(folder.glob("models/.before-restore-*/versions/2/version.json"))) == 1
        shutil.rmtree(folder)
    assert kills >= RENAMES // 2


def test_an_interrupted_restore_is_not_mixed_with_another(backup: Path, later: Path, fresh: Path) -> None:
    done("backup", later / "second", cwd=later)
    assert killed("restore", backup, cwd=fresh, renames=12)
    assert (fresh / ".restore.json").exists()
    assert "interrupted" in done("restore", later / "second", cwd=fresh, code=2).err
    assert "interrupted" in done("backup", later / "third", cwd=fresh, code=2).err
    done("restore", backup, cwd=fresh, code=0)
