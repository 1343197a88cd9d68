"""Connections to SQLite or PostgreSQL, and the order of writers."""

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
from medloop.feedback.db.faults import Vanished, explained
from medloop.settings import FeedbackSettings

STATELESS_VARIABLES = (
    "AWS_LAMBDA_FUNCTION_NAME",
    "ECS_CONTAINER_METADATA_URI",
    "ECS_CONTAINER_METADATA_URI_V4",
    "K_SERVICE",
)
LOCK_TIMEOUT_MS = 3000
# FULL, because a prediction that was returned has to survive a power cut; NORMAL survives only kill -9.
PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON")
POSTGRES = {
    "connect_timeout": 3,
    "tcp_user_timeout": 5000,
    "keepalives_idle": 10,
    "options": "-c statement_timeout=10000 -c lock_timeout=5000 -c idle_in_transaction_session_timeout=10000",
}
# Device and inode, which identify a file whatever its name.
FileId = tuple[int, int]
# The keys under which a connection records the file that it has open,
FILE = "file"
# and its write-ahead log, which stays the same while any connection is open.
LOG = "log"
READ_ONLY = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"


def is_stateless(settings: FeedbackSettings, environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether the local disk is lost with the process; the settings override the detected platform."""
    if settings.stateless is not None:
        return settings.stateless
    return any(environ.get(name) for name in STATELESS_VARIABLES)


def database_url(settings: FeedbackSettings, root: Path) -> URL:
    """Return the database URL, with a SQLite file relative to the project; errors show no password."""
    try:
        url = make_url(settings.url.replace("postgres://", "postgresql://", 1))
    except (ArgumentError, ValueError):
        raise UserError(
            "feedback.url is not a database URL.",
            "Use one such as sqlite:///feedback.db or postgresql://user@host/name.",
        ) from None
    if url.get_backend_name() == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        kind = "in memory" if url.get_backend_name() == "sqlite" else f"of kind {url.get_backend_name()}"
        raise UserError(
            f"feedback.url names a database {kind}, which is not supported.",
            "Use a SQLite file or PostgreSQL, such as sqlite:///feedback.db or postgresql://user@host/name.",
        )
    if is_stateless(settings):
        raise UserError(
            "This platform does not keep its disk, so a SQLite file with corrections and journal would be lost.",
            "Set MEDLOOP_FEEDBACK__URL to a PostgreSQL database, or feedback.stateless: false if the project is on a "
            "persistent volume.",
        )
    return url.set(database=str(root / url.database))


@dataclass(frozen=True, kw_only=True)
class Places:
    """The files of the feedback store; `file` is None for a database server."""

    url: URL
    file: Path | None
    key: Path
    head: Path
    spool: Path
    outbox: Path

    @classmethod
    def of(cls, settings: FeedbackSettings, root: Path) -> Places:
        """Return those of a project."""
        url = database_url(settings, root)
        file = Path(str(url.database)) if url.get_backend_name() == "sqlite" else None
        base = file or root / "feedback.db"
        names = {name: base.with_suffix(f".{name}") for name in ("key", "head", "spool", "outbox")}
        return cls(url=url, file=file, **names)

    @property
    def kind(self) -> str:
        """Return the kind of database: sqlite or postgresql."""
        return self.url.get_backend_name()


class Database:
    """A database with concurrent reads; writes are serialised, within the process and between processes."""

    def __init__(self, url: URL, *, read_only: bool = False) -> None:
        self.file = Path(str(url.database)) if url.get_backend_name() == "sqlite" else None
        # The file that was written to; a replacement is not written to until it has been checked.
        self._written: FileId | None = None
        opened = _open_sqlite_read_only if read_only else _open_sqlite
        self.engine = opened(url, self.file) if self.file else _open_postgres(url)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a read transaction, which sees one state of the database."""
        with explained(), self.engine.connect() as connection:
            connection.exec_driver_sql("BEGIN" if self.file else READ_ONLY)
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a write transaction, committed when the block ends without an error."""
        with self.engine.begin() as connection:
            if self.file:
                # A transaction that began as a reader could fail when it starts to write.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                opened = connection.info[FILE]
                if self._written not in (None, opened):
                    raise Vanished("the database file was replaced")
                self._written = opened
            yield connection
            # Checked after the commit, so that nothing written to a removed file is reported as stored.
            log = connection.info.get(LOG)
        if self.file and (_file_id(self.file) != opened or _file_id(_sibling(self.file, "-wal")) != log):
            raise Vanished("the database file was removed or replaced")

    def accept_file(self) -> None:
        """Continue with the current file, which may have replaced another one."""
        self._written = None

    def settle(self) -> None:
        """Move what was committed from the write-ahead log into the SQLite file."""
        if self.file:
            with self.engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the connections."""
        self.engine.dispose()

    def make_file(self) -> None:
        """Create the file of a new SQLite database."""
        if self.file:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            # It holds patient data; SQLite gives its other files the same permissions.
            self.file.touch(mode=0o600)


def _open_sqlite(url: URL, file: Path) -> Engine:
    # Not created by connecting: an empty file would silently replace one that has disappeared.
    engine = create_engine(_address(url, file, "rw"), pool_timeout=5, hide_parameters=True)
    connections = _Connections(file)
    for name in ("connect", "checkout", "close"):
        event.listen(engine, name, getattr(connections, name))
    return engine


class _Connections:
    """The open connections to a SQLite file, as reported by the pool."""

    def __init__(self, file: Path) -> None:
        self._file, self._log, self._index = file, _sibling(file, "-wal"), _sibling(file, "-shm")
        # The log of each file that has been at this path, and how many connections have it open.
        self._open: dict[FileId, tuple[FileId | None, int]] = {}
        self._lock = threading.Lock()

    def connect(self, connection: Any, record: Any) -> None:
        record.info[FILE] = found = _file_id(self._file)
        if found is None:
            raise Vanished("the database file was removed while it was opened")
        with self._lock:
            known, users = self._open.get(found, (None, 0))
            self._check_log(known, users)
            # `Database` begins transactions, not Python's driver.
            connection.isolation_level = None
            for pragma in (f"busy_timeout={LOCK_TIMEOUT_MS}", *PRAGMAS):
                connection.execute(f"PRAGMA {pragma}").close()
            # The first query opens the log.
            connection.execute("SELECT count(*) FROM sqlite_master").close()
            record.info[LOG] = _file_id(self._log)
            self._open[found] = (record.info[LOG], users + 1)

    def checkout(self, _connection: Any, record: Any, _proxy: Any) -> None:
        if _file_id(self._file) != record.info[FILE]:
            # The pool closes this connection and opens another one, on the current file.
            raise DisconnectionError("the database file was removed or replaced")
        if _file_id(self._log) != record.info[LOG]:
            raise Vanished("the log of the database was removed")

    def close(self, connection: Any, record: Any) -> None:
        with self._lock:
            # The last connection to close moves the log into the file.
            connection.close()
            if LOG in record.info:
                del record.info[LOG]
                known, users = self._open[record.info[FILE]]
                self._open[record.info[FILE]] = (known, users - 1)

    def _check_log(self, known: FileId | None, users: int) -> None:
        """Raise while any process still has a removed log open: a new log would corrupt the database."""
        is_elsewhere = self._index.exists() and not self._log.exists()
        if known is not None and _file_id(self._log) != known and (users or is_elsewhere):
            raise Vanished("the log of the database was removed")


def _address(url: URL, file: Path, mode: str) -> URL:
    return url.set(database=file.absolute().as_uri(), query={"mode": mode, "uri": "true"})


def _sibling(file: Path, ending: str) -> Path:
    return file.with_name(file.name + ending)


def _file_id(file: Path) -> FileId | None:
    """Return the identity of the file at this path, or None."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _open_sqlite_read_only(url: URL, file: Path) -> Engine:
    # No connection is kept open, so that the last connection of a writer can clean up.
    engine = create_engine(
        _address(url, file, "ro"),
        poolclass=NullPool,
        connect_args={"timeout": LOCK_TIMEOUT_MS / 1000},
        hide_parameters=True,
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
            "PostgreSQL needs psycopg, which is not installed.", "Run `pip install 'medloop[postgres]'`."
        ) from error
