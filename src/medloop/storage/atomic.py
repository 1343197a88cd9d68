"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal, TextIO, overload

from medloop.errors import UserError

AT_FDCWD = -100
RENAME_EXCHANGE = 2
# Above this many files one sync of the machine is quicker than one a file.
MANY_FILES = 1000
# No room on the disk, in the quota or under the limit on the size of files.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
OWNER_ONLY = 0o600


@overload
def atomic_file(
    path: Path, mode: Literal["wb"] = "wb", *, secret: bool = False
) -> AbstractContextManager[BinaryIO]: ...
@overload
def atomic_file(path: Path, mode: Literal["w"], *, secret: bool = False) -> AbstractContextManager[TextIO]: ...
def atomic_file(path: Path, mode: str = "wb", *, secret: bool = False) -> AbstractContextManager[Any]:
    """A file that takes the place of `path` when the block ends well; after an error nothing has changed.

    Only its owner may read a secret one, from its first byte on and whatever the rights of the file before.
    """
    if mode == "wb":
        return _replacing(path, mode, secret=secret)
    return _replacing(path, mode, secret=secret, encoding="utf-8", newline="\n")


@contextmanager
def _replacing(
    path: Path, mode: str, *, secret: bool, encoding: str | None = None, newline: str | None = None
) -> Iterator[IO[Any]]:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{secrets.token_hex(8)}.partial")
    try:
        temporary.touch(mode=OWNER_ONLY if secret else 0o666, exist_ok=False)
        with temporary.open(mode, encoding=encoding, newline=newline) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if path.exists() and not secret:
            shutil.copymode(path, temporary)
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        _name(error, path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _name(error: OSError, path: Path) -> None:
    """Note what was being written in an error of the system that names no file, as that of a full disk."""
    if error.errno in FULL and error.filename is None:
        error.filename = str(path)


def write_text(path: Path, text: str, *, secret: bool = False) -> None:
    """Write a text as UTF-8, whole or not at all; only its owner may read a secret one."""
    with atomic_file(path, "w", secret=secret) as file:
        file.write(text)


def write_json(path: Path, content: object) -> None:
    """Write JSON that every reader understands: no NaN, no infinity."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError, RecursionError) as error:
        found = "no such file" if isinstance(error, FileNotFoundError) else "something else"
        raise UserError(
            f"{path.name} must be a JSON file", found=found, hint="run the step that writes it again"
        ) from error


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A new folder that takes the place of `path` when the block ends well; one writer at a time.

    Where the system can exchange two names (Linux), a reader sees the old or the new folder at every
    moment. Elsewhere a kill between two renames can leave the old one aside; the next writer puts it back.
    """
    path = path.resolve()
    if path.exists() and not path.is_dir():
        raise UserError(f"{path.name} must be a folder", found="a file", hint="choose another name, or remove it")
    new, aside = (path.with_name(f".{path.name}.{role}") for role in ("partial", "old"))
    with scratch_folder(new):
        if aside.exists() and not path.exists():
            aside.rename(path)
        _remove(aside)
        try:
            yield new
        except OSError as error:
            _name(error, path)
            raise
        _sync_tree(new)
        _put(new, path, aside)
        _sync(path.parent)
        _remove(aside)


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """An empty folder of this name, removed when the block ends; what a killed run left is removed first."""
    with file_lock(path.with_name(f"{path.name}.lock"), wait=False):
        _remove(path)
        path.mkdir()
        try:
            yield path
        finally:
            _remove(path)


def _put(new: Path, path: Path, aside: Path) -> None:
    """Give `new` the name `path`; what had it before goes to `new` or `aside`."""
    if not path.exists():
        new.rename(path)
    elif not _exchange(new, path):
        path.rename(aside)
        new.rename(path)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two names in one step; False where the system or the file system cannot."""
    import ctypes

    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    if renameat2 is None:
        return False
    return bool(renameat2(AT_FDCWD, os.fsencode(first), AT_FDCWD, os.fsencode(second), RENAME_EXCHANGE) == 0)


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_tree(folder: Path) -> None:
    paths = [path for path in (folder, *folder.rglob("*")) if not path.is_symlink()]
    if len(paths) > MANY_FILES:
        os.sync()
        return
    for path in paths:
        _sync(path)


@contextmanager
def file_lock(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock that ends with its process; without `wait` a held lock is a UserError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = _lock(path, wait=wait)
    try:
        yield
    finally:
        # Removed while it is held, so that whoever waits for it sees that it has gone and asks again.
        path.unlink(missing_ok=True)
        os.close(handle)


def _lock(path: Path, *, wait: bool) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            os.close(handle)
            raise UserError(
                "only one command at a time may write here",
                found=f"another one holds {path.name}",
                hint="wait until it has ended, then try again",
            ) from error
        if _is_still(handle, path):
            return handle
        os.close(handle)


def _is_still(handle: int, path: Path) -> bool:
    """Whether the name still belongs to the file that was opened."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def sha256_bytes(content: bytes) -> str:
    """The SHA-256 of some bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal, without loading it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
