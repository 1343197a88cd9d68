"""Copies of the feedback database for backups: made while it is in use, and restored into a project."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import inspect, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from medloop.errors import UserError
from medloop.feedback.db.database import LOCK_TIMEOUT_MS, Database, Places
from medloop.feedback.db.faults import explained
from medloop.feedback.db.migrate import schema_version
from medloop.feedback.db.tables import metadata
from medloop.feedback.journal.chain import stored_head

TABLES = (*metadata.tables, "alembic_version")
# The other server may have other users.
UNOWNED = ("--no-owner", "--no-privileges")
MAX_ERROR_CHARS = 200
CHECKS, CHECK_SECONDS = 10, 0.2


@dataclass(frozen=True, kw_only=True)
class DatabaseCopy:
    """A copy's kind of database, schema version, and newest journal entry (that of a server may hold later ones)."""

    kind: str
    form: str
    seq: int
    hash: str


def dump(places: Places, target: Path) -> DatabaseCopy | None:
    """Write a consistent copy of the database to a file; return None if there is no database."""
    if places.file is None:
        found = _describe_database(Database(places.url), places.kind)
        if found is not None:
            target.touch(mode=0o600)
            tables = [f"--table={name}" for name in TABLES]
            _run_postgres("pg_dump", places.url, "--format=custom", f"--file={target}", *UNOWNED, *tables)
        return found
    if not places.file.is_file():
        return None
    _dump_sqlite(places.file, target)
    return _describe_database(Database(places.url.set(database=str(target)), read_only=True), places.kind)


def _dump_sqlite(file: Path, target: Path) -> None:
    target.touch(mode=0o600)
    try:
        # A single read transaction, during which others may write; unlike a page copy it leaves out deleted rows.
        with closing(
            sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True, timeout=LOCK_TIMEOUT_MS / 1000)
        ) as one:
            one.execute("VACUUM INTO ?", (str(target),))
    except sqlite3.Error as error:
        raise UserError(
            f"{file.name} could not be copied ({error}).",
            "Free disk space if the disk is full; if the database is damaged, restore an earlier backup.",
        ) from error


def _describe_database(database: Database, kind: str) -> DatabaseCopy | None:
    with closing(database), database.reading() as connection:
        form = schema_version(connection)
        if form is None:
            return None
        head = stored_head(connection)
        return DatabaseCopy(kind=kind, form=form, seq=head.seq, hash=head.hash)


def has_content(places: Places) -> bool:
    """Return whether there is a database that a restored one would replace."""
    if places.file is not None:
        return places.file.is_file() and places.file.stat().st_size > 0
    return _describe_database(Database(places.url), places.kind) is not None


def is_in_use(places: Places) -> bool:
    """Return whether another process has the database open, as far as can be detected."""
    if places.file is not None:
        return places.file.is_file() and _is_sqlite_in_use(places.file)
    # A connection that was just closed may still be listed.
    for _ in range(CHECKS):
        if not _is_postgres_in_use(places.url):
            return False
        time.sleep(CHECK_SECONDS)
    return True


def _is_postgres_in_use(url: URL) -> bool:
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = current_user"
        " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    with closing(Database(url)) as database, database.reading() as connection:
        return bool(connection.execute(text(query)).scalar())


def _is_sqlite_in_use(file: Path) -> bool:
    """Return whether another connection is open: only the last one may end the write-ahead log."""
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True, timeout=0)) as connection:
            connection.execute("PRAGMA journal_mode=DELETE").fetchone()
    except sqlite3.OperationalError as error:
        return "locked" in str(error)
    except sqlite3.DatabaseError:
        # It is damaged, which may be the reason for the restore.
        return False
    return False


def set_tables_aside(places: Places, schema: str) -> None:
    """Move the tables of a server's database into a separate schema, all or none."""
    try:
        with closing(Database(places.url)) as database, explained(), database.writing() as connection:
            if schema_version(connection) is None:
                return
            connection.execute(text(f'CREATE SCHEMA "{schema}"'))
            for name in TABLES:
                connection.execute(text(f'ALTER TABLE IF EXISTS "{name}" SET SCHEMA "{schema}"'))
    except SQLAlchemyError as error:
        raise UserError(
            f"The tables could not be moved into schema {schema} "
            f"({type(getattr(error, 'orig', None) or error).__name__}).",
            "Allow the database user to create schemas (GRANT CREATE ON DATABASE), or restore into an empty database.",
        ) from error


def has_schema(places: Places, schema: str) -> bool:
    """Return whether a server's database has a schema of this name."""
    with closing(Database(places.url)) as database, database.reading() as connection:
        return inspect(connection).has_schema(schema)


def load_tables(places: Places, dumped: Path) -> None:
    """Load the tables of a dump into a server's database, all or none; existing tables are left unchanged."""
    if not has_content(places):
        _run_postgres("pg_restore", places.url, "--single-transaction", "--exit-on-error", *UNOWNED, str(dumped))


def check_programs(*names: str) -> None:
    """Raise an error if one of PostgreSQL's client programs is not installed."""
    for name in names:
        if shutil.which(name) is None:
            raise UserError(
                f"PostgreSQL's program {name} is not installed, or not on the PATH.",
                "Install the client programs: `apt-get install postgresql-client` or `brew install libpq`.",
            )


def _run_postgres(program: str, url: URL, *options: str) -> None:
    check_programs(program)
    # The password goes through the environment: command lines are visible to other users.
    password = {"PGPASSWORD": str(url.password)} if url.password is not None else {}
    address = url._replace(drivername="postgresql", password=None)
    done = subprocess.run(
        [program, f"--dbname={address.render_as_string(hide_password=False)}", "--no-password", *options],
        env={**os.environ, **password},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        # Later lines may quote rows, which are patient data.
        first = next(iter(done.stderr.splitlines()), f"exit code {done.returncode}")
        raise UserError(
            f"{program} failed: {first[:MAX_ERROR_CHARS]}", "Check that the database is running and accepts the login."
        )
