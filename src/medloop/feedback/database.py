"""The connection to SQLite or PostgreSQL: how it is opened, and how writers take turns."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DisconnectionError, NoSuchModuleError
from sqlalchemy.pool import NullPool

from medloop.errors import UserError
from medloop.feedback.faults import Vanished, explained
from medloop.settings import FeedbackSettings

STATELESS_VARIABLES = (
    "AWS_LAMBDA_FUNCTION_NAME",
    "ECS_CONTAINER_METADATA_URI",
    "ECS_CONTAINER_METADATA_URI_V4",
    "K_SERVICE",
)
LOCKED_MS = 3000
# FULL, because an answer that has left must outlive a power cut, too; against kill -9 alone NORMAL would do.
PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON")
POSTGRES = {
    "connect_timeout": 3,
    "tcp_user_timeout": 5000,
    "keepalives_idle": 10,
    "options": "-c statement_timeout=10000 -c lock_timeout=5000 -c idle_in_transaction_session_timeout=10000",
}
# What tells a file from any other that may get its name.
Place = tuple[int, int]
# Under which a connection notes the file that it has open.
FILE = "file"
# The log beside it, which holds what was committed last; it stays the same while any connection is open.
LOG = "log"
READ_ONLY = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"


def is_stateless(settings: FeedbackSettings, environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether the local disk goes when the process does; the settings know better than the platform."""
    if settings.stateless is not None:
        return settings.stateless
    return any(environ.get(name) for name in STATELESS_VARIABLES)


def database_url(settings: FeedbackSettings, root: Path) -> URL:
    """The address of the database, a SQLite file's within the project; errors show no password."""
    try:
        url = make_url(settings.url.replace("postgres://", "postgresql://", 1))
    except (ArgumentError, ValueError):
        raise UserError(
            "feedback.url must be a database's address",
            found="something else",
            hint="sqlite:///feedback.db or postgresql://user@host/name",
        ) from None
    if url.get_backend_name() == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        raise UserError(
            "feedback.url must name a SQLite file or a PostgreSQL database",
            found=url.get_backend_name() + (" in memory" if url.get_backend_name() == "sqlite" else ""),
            hint="sqlite:///feedback.db or postgresql://user@host/name",
        )
    if is_stateless(settings):
        raise UserError(
            "a platform that keeps no disk needs a database elsewhere",
            found="a SQLite file, which would be lost with the container, corrections and journal with it",
            hint="set MEDLOOP_FEEDBACK__URL to a PostgreSQL database, or feedback.stateless: false where the project "
            "lies on a volume that stays",
        )
    return url.set(database=str(root / url.database))


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where the feedback store keeps what it keeps; `file` is None where the database is a server's."""

    url: URL
    file: Path | None
    key: Path
    head: Path
    spool: Path
    outbox: Path

    @classmethod
    def of(cls, settings: FeedbackSettings, root: Path) -> Places:
        """Those of a project."""
        url = database_url(settings, root)
        file = Path(str(url.database)) if url.get_backend_name() == "sqlite" else None
        beside = file or root / "feedback.db"
        names = {name: beside.with_suffix(f".{name}") for name in ("key", "head", "spool", "outbox")}
        return cls(url=url, file=file, **names)

    @property
    def kind(self) -> str:
        """Which kind of database it is."""
        return self.url.get_backend_name()


class Database:
    """Reads run side by side; writes take turns, within the process and between processes."""

    def __init__(self, url: URL, *, read_only: bool = False) -> None:
        self.file = Path(str(url.database)) if url.get_backend_name() == "sqlite" else None
        # The file that is written to; another one is not, until somebody has looked into it.
        self._written: Place | None = None
        opened = _look_into_sqlite if read_only else _open_sqlite
        self.engine = opened(url, self.file) if self.file else _open_postgres(url)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A look at one moment of the database."""
        with explained(), self.engine.connect() as connection:
            connection.exec_driver_sql("BEGIN" if self.file else READ_ONLY)
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction, committed when the block ends well."""
        with self.engine.begin() as connection:
            if self.file:
                # A writer that began as a reader could find its turn taken when it comes to write.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                opened = connection.info[FILE]
                if self._written not in (None, opened):
                    raise Vanished("the database file was replaced")
                self._written = opened
            yield connection
            # Looked at after the commit, for nobody may be told that what went into a removed file is stored.
            log = connection.info.get(LOG)
        if self.file and (_place_of(self.file) != opened or _place_of(_beside(self.file, "-wal")) != log):
            raise Vanished("the database file was removed or replaced")

    def accept_file(self) -> None:
        """Go on with the file that is there, which may have taken the place of another."""
        self._written = None

    def settle(self) -> None:
        """Bring what was committed into the SQLite file itself, so that it is not in the log beside it alone."""
        if self.file:
            with self.engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Give up the connections."""
        self.engine.dispose()

    def make_file(self) -> None:
        """Make the file of a new SQLite database."""
        if self.file:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            # Rows of patients are in it; SQLite gives the files beside it the same rights.
            self.file.touch(mode=0o600)


def _open_sqlite(url: URL, file: Path) -> Engine:
    # Never made by connecting: where it has vanished, an empty one must not take its place.
    engine = create_engine(_address(url, file, "rw"), pool_timeout=5, hide_parameters=True)
    connections = _Connections(file)
    for name in ("connect", "checkout", "close"):
        event.listen(engine, name, getattr(connections, name))
    return engine


class _Connections:
    """The open connections to a SQLite file; told by the pool of each that is made, lent and closed."""

    def __init__(self, file: Path) -> None:
        self._file, self._log, self._index = file, _beside(file, "-wal"), _beside(file, "-shm")
        # The log of each file that was at this path, and how many connections have it open.
        self._open: dict[Place, tuple[Place | None, int]] = {}
        self._turn = threading.Lock()

    def connect(self, connection: Any, record: Any) -> None:
        record.info[FILE] = found = _place_of(self._file)
        if found is None:
            raise Vanished("the database file was removed while it was opened")
        with self._turn:
            known, users = self._open.get(found, (None, 0))
            self._check_log(known, users)
            # Transactions begin where `Database` says so, not where Python's driver guesses.
            connection.isolation_level = None
            for pragma in (f"busy_timeout={LOCKED_MS}", *PRAGMAS):
                connection.execute(f"PRAGMA {pragma}").close()
            # The first look opens the log.
            connection.execute("SELECT count(*) FROM sqlite_master").close()
            record.info[LOG] = _place_of(self._log)
            self._open[found] = (record.info[LOG], users + 1)

    def checkout(self, _connection: Any, record: Any, _proxy: Any) -> None:
        if _place_of(self._file) != record.info[FILE]:
            # The pool closes it and opens another one, on the file that is there now.
            raise DisconnectionError("the database file was removed or replaced")
        if _place_of(self._log) != record.info[LOG]:
            raise Vanished("the log of the database was removed")

    def close(self, connection: Any, record: Any) -> None:
        with self._turn:
            # Whoever closes last brings the log into the file.
            connection.close()
            if LOG in record.info:
                del record.info[LOG]
                known, users = self._open[record.info[FILE]]
                self._open[record.info[FILE]] = (known, users - 1)

    def _check_log(self, known: Place | None, users: int) -> None:
        """Raise while somebody, here or in another process, still has a removed log open: a new one would spoil it."""
        is_elsewhere = self._index.exists() and not self._log.exists()
        if known is not None and _place_of(self._log) != known and (users or is_elsewhere):
            raise Vanished("the log of the database was removed")


def _address(url: URL, file: Path, mode: str) -> URL:
    return url.set(database=file.absolute().as_uri(), query={"mode": mode, "uri": "true"})


def _beside(file: Path, ending: str) -> Path:
    return file.with_name(file.name + ending)


def _place_of(file: Path) -> Place | None:
    """What tells this file from any other that may get its name."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _look_into_sqlite(url: URL, file: Path) -> Engine:
    # No connection is kept: the last one of a writer to close is to find itself alone, and tidy up.
    engine = create_engine(
        _address(url, file, "ro"), poolclass=NullPool, connect_args={"timeout": LOCKED_MS / 1000}, hide_parameters=True
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None

    return engine


def _open_postgres(url: URL) -> Engine:
    given = {name: value for name, value in POSTGRES.items() if name not in url.query}
    try:
        return create_engine(url, pool_timeout=5, pool_pre_ping=True, connect_args=given, hide_parameters=True)
    except (ImportError, NoSuchModuleError) as error:
        raise UserError(
            "PostgreSQL needs psycopg", found="it is not installed", hint="pip install 'medloop[postgres]'"
        ) from error
