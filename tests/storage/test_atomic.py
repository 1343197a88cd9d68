"""Files and folders are there whole or not at all, whatever ends the writer."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Literal

import pytest

from medloop.errors import UserError
from medloop.storage import (
    atomic,
    atomic_file,
    atomic_folder,
    file_lock,
    read_json,
    sha256_bytes,
    sha256_file,
    write_json,
    write_text,
)

HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

WRITE_HALF_A_FILE = """
import pathlib, sys
from medloop.storage import atomic_file
with atomic_file(pathlib.Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    print("ready", flush=True)
    sys.stdin.read()
"""
WRITE_HALF_A_FOLDER = """
import pathlib, sys
from medloop.storage import atomic_folder
with atomic_folder(pathlib.Path(sys.argv[1])) as folder:
    (folder / "half").write_bytes(b"half")
    print("ready", flush=True)
    sys.stdin.read()
"""
REPLACE_A_FOLDER_FOR_EVER = """
import itertools, pathlib, sys
from medloop.storage import atomic_folder
for number in itertools.count():
    with atomic_folder(pathlib.Path(sys.argv[1])) as folder:
        for name in range(5):
            (folder / str(name)).write_text(str(number))
    print("ready", flush=True)
"""


def start(program: str, path: Path) -> subprocess.Popen[str]:
    """A process that writes `path` and has said that it is in the midst of it."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_written_file_is_there_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file"
    with atomic_file(path) as file:
        file.write(b"all of it")
        assert not path.exists()
    assert path.read_bytes() == b"all of it"
    assert [path.name for path in path.parent.iterdir()] == ["file"]


def test_a_text_is_utf8_with_plain_line_ends(tmp_path: Path) -> None:
    write_text(tmp_path / "text", "Größe\n")
    assert (tmp_path / "text").read_bytes() == "Größe\n".encode()


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "old")
    with suppress(ZeroDivisionError), atomic_file(tmp_path / "file", "w") as file:
        file.write("new")
        1 / 0  # noqa: B018
    assert contents(tmp_path) == {"file": "old"}


def test_a_kill_leaves_the_old_file(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "old")
    kill(start(WRITE_HALF_A_FILE, tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "old"
    write_text(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"


def test_a_replaced_file_keeps_its_rights(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write_text(path, "old")
    path.chmod(0o600)
    write_text(path, "new")
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", ["wb", "w"])
def test_a_secret_is_its_owners_alone_from_the_first_byte(mode: Literal["wb", "w"], tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.touch(mode=0o644)
    with atomic_file(path, mode, secret=True):
        (partial,) = tmp_path.glob(".*")
        assert partial.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_mode & 0o777 == 0o600


def test_json_comes_back_as_it_was(tmp_path: Path) -> None:
    content = {"b": [1, 2.5, None, True], "a": "Größe"}
    write_json(tmp_path / "x.json", content)
    assert read_json(tmp_path / "x.json") == content
    assert list(read_json(tmp_path / "x.json")) == ["b", "a"]


def test_json_that_others_cannot_read_is_not_written(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", 1)
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "x.json", float("nan"))
    assert read_json(tmp_path / "x.json") == 1


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_json_that_is_none_is_named(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "champion.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"champion\.json (does not exist|is not valid JSON)"):
        read_json(path)


def test_a_written_folder_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    for number in range(3):
        with atomic_folder(tmp_path / "folder") as folder:
            (folder / f"file{number}").write_text(str(number))
    assert contents(tmp_path / "folder") == {"file2": "2"}
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_an_error_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "folder") as folder:
        (folder / "file").write_text("old")
    with suppress(ZeroDivisionError), atomic_folder(tmp_path / "folder") as folder:
        (folder / "file").write_text("new")
        1 / 0  # noqa: B018
    assert contents(tmp_path / "folder") == {"file": "old"}
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_kill_leaves_the_old_folder_and_the_next_writer_tidies_up(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "folder") as folder:
        (folder / "file").write_text("old")
    kill(start(WRITE_HALF_A_FOLDER, tmp_path / "folder"))
    assert contents(tmp_path / "folder") == {"file": "old"}
    with atomic_folder(tmp_path / "folder") as folder:
        (folder / "file").write_text("new")
    assert contents(tmp_path / "folder") == {"file": "new"}
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("moment", range(6))
def test_a_kill_at_any_moment_leaves_a_whole_folder(moment: int, tmp_path: Path) -> None:
    process = start(REPLACE_A_FOLDER_FOR_EVER, tmp_path / "folder")
    assert process.stdout is not None
    for _ in range(moment * 3):
        process.stdout.readline()
    kill(process)
    found = contents(tmp_path / "folder")
    assert len(found) == 5
    assert len(set(found.values())) == 1


def test_a_reader_finds_the_folder_at_every_moment(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    done = threading.Event()
    missed: list[int] = []

    def look() -> None:
        while not done.is_set():
            if not path.exists():
                missed.append(1)

    reader = threading.Thread(target=look)
    reader.start()
    for number in range(100):
        with atomic_folder(path) as folder:
            (folder / "file").write_text(str(number))
    done.set()
    reader.join()
    assert not missed


def test_a_system_that_cannot_exchange_names_replaces_folders_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic, "_exchange", lambda *_: False)
    for number in range(3):
        with atomic_folder(tmp_path / "folder") as folder:
            (folder / "file").write_text(str(number))
    assert contents(tmp_path / "folder") == {"file": "2"}
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_folder_that_was_left_aside_comes_back(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "folder") as folder:
        (folder / "file").write_text("old")
    (tmp_path / "folder").rename(tmp_path / ".folder.old")
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "folder") as folder:
        1 / 0  # noqa: B018
    assert contents(tmp_path / "folder") == {"file": "old"}


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with atomic_folder(tmp_path / "link") as folder:
        (folder / "file").write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert contents(tmp_path / "real") == {"file": "new"}


def test_a_file_is_not_replaced_by_a_folder(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "mine")
    with pytest.raises(UserError, match="is a file, not a folder"), atomic_folder(tmp_path / "file"):
        pass
    assert (tmp_path / "file").read_text() == "mine"


def test_many_files_are_synced_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(atomic, "MANY_FILES", 3)
    monkeypatch.setattr(atomic.os, "sync", lambda: synced.append(1))
    with atomic_folder(tmp_path / "folder") as folder:
        for number in range(4):
            (folder / str(number)).touch()
    assert synced == [1]


def test_a_folder_has_one_writer_at_a_time(tmp_path: Path) -> None:
    with (
        atomic_folder(tmp_path / "folder") as folder,
        pytest.raises(UserError, match="Another command is writing"),
        atomic_folder(tmp_path / "folder"),
    ):
        pass
    assert not folder.exists()
    assert (tmp_path / "folder").is_dir()


def test_a_held_lock_is_refused_at_once_without_wait(tmp_path: Path) -> None:
    with (
        file_lock(tmp_path / "lock"),
        pytest.raises(UserError, match="it holds lock"),
        file_lock(tmp_path / "lock", wait=False),
    ):
        pass
    with file_lock(tmp_path / "lock", wait=False):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    process = start(WRITE_HALF_A_FOLDER, tmp_path / "folder")
    with pytest.raises(UserError), file_lock(tmp_path / ".folder.partial.lock", wait=False):
        pass
    kill(process)
    with file_lock(tmp_path / ".folder.partial.lock", wait=False):
        pass


def test_waiting_lockers_take_turns(tmp_path: Path) -> None:
    write_text(tmp_path / "count", "0")

    def count() -> None:
        for _ in range(100):
            with file_lock(tmp_path / "lock"):
                seen = int((tmp_path / "count").read_text())
                (tmp_path / "count").write_text(str(seen + 1))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "count").read_text() == "400"


def test_a_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"hello")
    assert sha256_file(tmp_path / "file") == sha256_bytes(b"hello") == HELLO
