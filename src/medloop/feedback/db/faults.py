"""Faults of the database: which are temporary, and which need a person."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InvalidRequestError, ProgrammingError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from medloop.feedback.records import FeedbackAway
from medloop.storage.faults import SQLITE_FAULTS

# Prefixes of SQLSTATEs that need a person. All others are temporary: a restart, a lock, the network.
POSTGRES_BROKEN = {
    "25006": "the database is read-only",
    "28": "the database refuses the user",
    "3D": "the database does not exist on the server",
    "3F": "the database's schema is missing",
    "42501": "the database refuses the user",
    "42": "a table of the database is missing or was changed",
    "53100": "the disk of the database is full",
    "58": "the database reports a system error",
    "XX": "the database is damaged",
}
SQLITE_BROKEN = {name: reason for name, (_, reason) in SQLITE_FAULTS.items()}
OLDER = (
    "the database is older than what this service wrote: restore the right one, or restart the service to continue "
    "with this one"
)


class Vanished(OSError):
    """The file at the database's path is no longer the one that was written to."""


class Older(OSError):
    """The database lacks what this service has written to it."""


def is_away(error: BaseException) -> bool:
    """Return whether the database is at fault, and not the values."""
    # SQLAlchemy raises InvalidRequestError where the file was replaced while a connection was opened.
    if isinstance(error, PoolTimeout | OSError | FeedbackAway) or type(error) is InvalidRequestError:
        return True
    if isinstance(error, ProgrammingError):
        # PostgreSQL has a code for a missing table; a value that the driver cannot send has none.
        return getattr(error.orig, "sqlstate", None) is not None
    return isinstance(error, DBAPIError) and not isinstance(error, IntegrityError | DataError)


def lasting_reason(error: BaseException) -> str | None:
    """Return why nothing can be written until a person intervenes, or None if the fault is temporary."""
    if isinstance(error, FeedbackAway) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, Vanished):
        return "the database file is missing or was replaced"
    if isinstance(error, Older):
        return OLDER
    if isinstance(error, OSError):
        return f"a file of the database cannot be used ({error.strerror or type(error).__name__})"
    found = getattr(error, "orig", None)
    code, known = getattr(found, "sqlstate", None), POSTGRES_BROKEN
    if code is None:
        # SQLite also has extended names, such as SQLITE_READONLY_DBMOVED.
        code, known = getattr(found, "sqlite_errorname", None), SQLITE_BROKEN
    return next((reason for start, reason in known.items() if code is not None and code.startswith(start)), None)


@contextmanager
def explained() -> Iterator[None]:
    """Raise FeedbackAway if the database is unavailable; its own messages can hold addresses and values."""
    try:
        yield
    except (SQLAlchemyError, OSError) as error:
        if is_away(error):
            reason = lasting_reason(error) or f"no response: {type(getattr(error, 'orig', None) or error).__name__}"
            raise FeedbackAway(
                f"The feedback database is unavailable ({reason}).", "Try again in a few seconds."
            ) from error
        raise
