"""Write files and folders atomically: complete or not at all."""

from __future__ import annotations

import errno
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
# Above this many files one sync of the machine is faster than one per file.
MANY_FILES = 1000
# No space on the disk, in the quota or under the limit on file size.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
OWNER_ONLY = 0o600
POLL_S = 0.01


@overload
def atomic_file(
    path: Path, mode: Literal["wb"] = "wb", *, secret: bool = False
) -> AbstractContextManager[BinaryIO]: ...
@overload
def atomic_file(path: Path, mode: Literal["w"], *, secret: bool = False) -> AbstractContextManager[TextIO]: ...
def atomic_file(path: Path, mode: str = "wb", *, secret: bool = False) -> AbstractContextManager[Any]:
    """Open a file that replaces `path` when the block ends without an error; after an error nothing has changed.

    Only its owner may read a `secret` file, from its first byte on, whatever the permissions of the old file.
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
        _add_file_name(error, path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _add_file_name(error: OSError, path: Path) -> None:
    """Add the file to an OSError without one, such as that of a full disk."""
    if error.errno in DISK_FULL and error.filename is None:
        error.filename = str(path)


def write_text(path: Path, text: str, *, secret: bool = False) -> None:
    """Write a text as UTF-8 atomically; only its owner may read a `secret` one."""
    with atomic_file(path, "w", secret=secret) as file:
        file.write(text)


def write_json(path: Path, content: object) -> None:
    """Write JSON atomically, without NaN or infinity, so that every reader accepts it."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError, RecursionError) as error:
        problem = "does not exist" if isinstance(error, FileNotFoundError) else "is not valid JSON"
        raise UserError(f"{path.name} {problem}.", "Run the step that writes it again.") from error


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Create a folder that replaces `path` when the block ends without an error; one writer at a time.

    Where the system can exchange two names (Linux), a reader sees either the old or the new folder at every
    moment. Elsewhere a kill between two renames can leave the old one aside; the next writer restores it.
    """
    path = path.resolve()
    if path.exists() and not path.is_dir():
        raise UserError(f"{path.name} is a file, not a folder.", "Choose another name, or remove the file.")
    new, aside = (path.with_name(f".{path.name}.{role}") for role in ("partial", "old"))
    with scratch_folder(new):
        if aside.exists() and not path.exists():
            aside.rename(path)
        _remove(aside)
        try:
            yield new
        except OSError as error:
            _add_file_name(error, path)
            raise
        _sync_tree(new)
        _replace_folder(new, path, aside)
        _sync(path.parent)
        _remove(aside)


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Create an empty folder, removed when the block ends; leftovers of a killed run are removed first."""
    with file_lock(path.with_name(f"{path.name}.lock"), wait=False):
        _remove(path)
        path.mkdir()
        try:
            yield path
        finally:
            _remove(path)


def _replace_folder(new: Path, path: Path, aside: Path) -> None:
    """Give `new` the name `path`; what had it before goes to `new` or `aside`."""
    if not path.exists():
        new.rename(path)
    elif not _exchange(new, path):
        path.rename(aside)
        new.rename(path)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two names in one step; return False if the system or the file system cannot."""
    import ctypes

    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    if renameat2 is None:
        return False
    return bool(renameat2(AT_FDCWD, os.fsencode(first), AT_FDCWD, os.fsencode(second), RENAME_EXCHANGE) == 0)


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _sync(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk."""
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
    """Hold a lock that is released when its process dies; without `wait`, raise a UserError where it is held."""
    # It loads asyncio, which a command that locks nothing does not need.
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    # Without the fallback to a file whose existence is the lock, which would outlive a killed process.
    lock = FileLock(path, timeout=-1 if wait else 0, fallback_to_soft=False)
    try:
        lock.acquire(poll_interval=POLL_S)
    except Timeout:
        raise UserError(
            f"Another command is writing here (it holds {path.name}).", "Wait until it has finished, then try again."
        ) from None
    try:
        yield
    finally:
        # filelock leaves the file behind. Removed while it is held, since a waiting process checks that its file
        # still has a name once it holds the lock.
        path.unlink(missing_ok=True)
        lock.release()


def sha256_bytes(content: bytes) -> str:
    """Return the SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal, without loading it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
