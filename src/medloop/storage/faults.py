"""Explain errors of reading and writing files, from any library, as errors with advice."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from medloop.errors import UserError
from medloop.storage.atomic import DISK_FULL
from medloop.storage.names import visible

DENIED, READ_ONLY = (errno.EACCES, errno.EPERM), (errno.EROFS,)
# Errors that count even without a file name; others without one are not about a file.
NAMELESS = (*DENIED, *READ_ONLY, *DISK_FULL, errno.EIO)
# SQLite does not name the file.
DATABASES = "a database of the project (feedback.db, mlflow.db)"
# How Rust libraries write the error number of the system.
RUST = re.compile(r"\(os error (\d+)\)")
# SQLite's errors that only a person can fix, by the beginnings of their names: the system's number that says as much,
# if there is one, and the reason.
SQLITE_FAULTS: dict[str, tuple[int | None, str]] = {
    "SQLITE_CANTOPEN": (errno.EACCES, "the database file is missing or cannot be opened"),
    "SQLITE_CORRUPT": (None, "the database file is damaged"),
    "SQLITE_ERROR": (None, "a table of the database is missing or was changed"),
    "SQLITE_FULL": (errno.ENOSPC, "the disk of the database is full"),
    "SQLITE_IOERR": (errno.EIO, "the database file cannot be read or written"),
    "SQLITE_NOTADB": (None, "the database file is not a database"),
    "SQLITE_PERM": (errno.EACCES, "the database file cannot be written"),
    "SQLITE_READONLY": (errno.EACCES, "the database file cannot be written"),
}


def explain_fault(error: BaseException, *, file: Path | None = None) -> UserError | None:
    """Return a UserError if an error was caused by a file or folder; `file` is that of a SQLite database."""
    for one in _chain(error):
        # A missing file further down the chain may have been expected by the code.
        about_file = one is error and getattr(one, "filename", None) is not None
        if isinstance(one, OSError) and one.strerror and (about_file or one.errno in NAMELESS):
            return _file_error(one.errno or 0, one.strerror, one.filename)
        if isinstance(one, sqlite3.Error) and (number := _sqlite_errno(one)):
            return _file_error(number, str(one), file or DATABASES)
        if not isinstance(one, OSError) and (found := RUST.search(str(one))):
            return _file_error(int(found[1]), os.strerror(int(found[1])), file)
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and its causes."""
    seen: list[BaseException | None] = [None]
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and one not in seen:
            seen.append(one)
            yield one
            waiting += [one.__context__, one.__cause__, getattr(one, "orig", None)]


def _sqlite_errno(error: sqlite3.Error) -> int | None:
    name = getattr(error, "sqlite_errorname", None) or ""
    return next((number for kind, (number, _) in SQLITE_FAULTS.items() if name.startswith(kind)), None)


def _file_error(number: int, words: str, place: object) -> UserError:
    name = os.fsdecode(place) if isinstance(place, bytes | os.PathLike) else str(place or "")
    if number in DENIED and name and name != DATABASES and not os.path.lexists(name):
        # A file that cannot be created is named by its folder.
        name = str(Path(name).absolute().parent)
    return UserError(
        f"{visible(name) if name else 'A file or folder'} cannot be read or written ({words}).",
        f"{_advice(number)}, then run the command again.",
    )


def _advice(number: int) -> str:
    if number in DISK_FULL:
        return "Free some disk space, or raise the quota or the limit on file size"
    if number in READ_ONLY:
        return "Use a folder on a file system that is not mounted read-only"
    if number in DENIED:
        return f"Give user {os.geteuid()} access to it and to its folder, or run as a user who has access"
    return "Check the path and the disk"
