"""A file that cannot be read or written, whichever library meets it, told as what the user can do about it."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from medloop.errors import UserError
from medloop.storage.atomic import FULL
from medloop.storage.names import visible

RIGHTS, READ_ONLY = (errno.EACCES, errno.EPERM), (errno.EROFS,)
# Those of which the system need not name the file; of any other it does, or it is about something else than a file.
NAMELESS = (*RIGHTS, *READ_ONLY, *FULL, errno.EIO)
# SQLite does not say which one it was.
DATABASES = "a database of the project (feedback.db, mlflow.db)"
# How Rust's libraries write the system's number into their errors.
RUST = re.compile(r"\(os error (\d+)\)")
SQLITE = {
    "SQLITE_READONLY": errno.EACCES,
    "SQLITE_CANTOPEN": errno.EACCES,
    "SQLITE_PERM": errno.EACCES,
    "SQLITE_FULL": errno.ENOSPC,
    "SQLITE_IOERR": errno.EIO,
}


def explain_fault(error: BaseException, *, file: Path | None = None) -> UserError | None:
    """Return what to tell the user where a file or folder is at the root of an error; `file` is a SQLite database's."""
    for one in _chain(error):
        # Farther down, a file that was not there may be what the code was ready for.
        about_file = one is error and getattr(one, "filename", None) is not None
        if isinstance(one, OSError) and one.strerror and (about_file or one.errno in NAMELESS):
            return _told(one.errno or 0, one.strerror, one.filename)
        if isinstance(one, sqlite3.Error) and (number := _number(one)):
            return _told(number, str(one), file or DATABASES)
        if not isinstance(one, OSError) and (found := RUST.search(str(one))):
            return _told(int(found[1]), os.strerror(int(found[1])), file)
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and those that it came from."""
    seen: list[BaseException | None] = [None]
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and one not in seen:
            seen.append(one)
            yield one
            waiting += [one.__context__, one.__cause__, getattr(one, "orig", None)]


def _number(error: sqlite3.Error) -> int | None:
    name = getattr(error, "sqlite_errorname", None) or ""
    return next((number for kind, number in SQLITE.items() if name.startswith(kind)), None)


def _told(number: int, words: str, place: object) -> UserError:
    name = os.fsdecode(place) if isinstance(place, bytes | os.PathLike) else str(place or "")
    if number in RIGHTS and name and name != DATABASES and not os.path.lexists(name):
        # What cannot be made is told by the folder that refuses it.
        name = str(Path(name).absolute().parent)
    return UserError(
        "A file or folder cannot be read or written",
        found=f"{visible(name)}: {words}" if name else words,
        hint=f"{_advice(number)}; then run the command again",
    )


def _advice(number: int) -> str:
    if number in FULL:
        return "make room on the disk, or raise the quota or the limit on the size of files"
    if number in READ_ONLY:
        return "use a folder on a file system that is not mounted read-only"
    if number in RIGHTS:
        return f"give user {os.geteuid()} the rights for it and for its folder, or run as a user who has them"
    return "check the path and the disk"
