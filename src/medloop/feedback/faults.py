"""What stands between the service and its database, and whether it passes by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InvalidRequestError, ProgrammingError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from medloop.feedback.records import FeedbackAway

# SQLSTATEs by their beginnings: somebody has to repair the database. All others pass: a restart, a lock, a network.
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
SQLITE_BROKEN = {
    "SQLITE_CANTOPEN": "the database file is missing or cannot be opened",
    "SQLITE_CORRUPT": "the database file is damaged",
    "SQLITE_ERROR": "a table of the database is missing or was changed",
    "SQLITE_FULL": "the disk of the database is full",
    "SQLITE_IOERR": "the database file cannot be read or written",
    "SQLITE_NOTADB": "the database file is no database",
    "SQLITE_PERM": "the database file cannot be written",
    "SQLITE_READONLY": "the database file cannot be written",
}
OLDER = (
    "the database is older than what this service wrote: restore the right one, or restart the service to go on with it"
)


class Vanished(OSError):
    """The database's path no longer leads to the file that was written to."""


class Older(OSError):
    """The database lacks what this service wrote into it."""


def is_away(error: BaseException) -> bool:
    """Whether the database, and not what it was given, is the trouble."""
    # SQLAlchemy gives up with an invalid request where the file was replaced again while a connection was opened.
    if isinstance(error, PoolTimeout | OSError | FeedbackAway) or type(error) is InvalidRequestError:
        return True
    if isinstance(error, ProgrammingError):
        # That a table is missing, PostgreSQL says so; a value that the driver cannot send has no such code.
        return getattr(error.orig, "sqlstate", None) is not None
    return isinstance(error, DBAPIError) and not isinstance(error, IntegrityError | DataError)


def lasting_reason(error: BaseException) -> str | None:
    """Why nothing can be written until somebody repairs it; None where it passes by itself."""
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
        # Extended names tell more than is needed: SQLITE_READONLY_DBMOVED.
        code, known = getattr(found, "sqlite_errorname", None), SQLITE_BROKEN
    return next((reason for start, reason in known.items() if code is not None and code.startswith(start)), None)


@contextmanager
def explained() -> Iterator[None]:
    """Turn a database that is away into an error that says so; its own words can hold addresses and values."""
    try:
        yield
    except (SQLAlchemyError, OSError) as error:
        if is_away(error):
            reason = (
                lasting_reason(error) or f"it does not answer ({type(getattr(error, 'orig', None) or error).__name__})"
            )
            raise FeedbackAway(
                "The feedback database cannot be used", found=reason, hint="try again in a few seconds"
            ) from error
        raise
