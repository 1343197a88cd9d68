"""The feedback database copied out of a project while it is in use, and brought back into one."""

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
from medloop.feedback.chain import stored_head
from medloop.feedback.database import LOCKED_MS, Database, Places
from medloop.feedback.faults import explained
from medloop.feedback.migrate import form_of
from medloop.feedback.tables import metadata

TABLES = (*metadata.tables, "alembic_version")
# Another server may have other users.
UNOWNED = ("--no-owner", "--no-privileges")
LONGEST_ERROR = 200
LOOKS, LOOK_S = 10, 0.2


@dataclass(frozen=True, kw_only=True)
class Dumped:
    """What a copy of the database holds: its form, and the newest entry of its journal (a server's may hold more)."""

    kind: str
    form: str
    seq: int
    hash: str


def dump(places: Places, target: Path) -> Dumped | None:
    """Copy the database as it is at one moment into a file; None where there is none."""
    if places.file is None:
        found = _look(Database(places.url), places.kind)
        if found is not None:
            target.touch(mode=0o600)
            tables = [f"--table={name}" for name in TABLES]
            _run_postgres("pg_dump", places.url, "--format=custom", f"--file={target}", *UNOWNED, *tables)
        return found
    if not places.file.is_file():
        return None
    _dump_sqlite(places.file, target)
    return _look(Database(places.url.set(database=str(target)), read_only=True), places.kind)


def _dump_sqlite(file: Path, target: Path) -> None:
    target.touch(mode=0o600)
    try:
        # One read transaction, beside which others write; unlike a copy page by page it takes no deleted rows along.
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True, timeout=LOCKED_MS / 1000)) as one:
            one.execute("VACUUM INTO ?", (str(target),))
    except sqlite3.Error as error:
        raise UserError(
            f"{file.name} could not be copied",
            found=str(error),
            hint="free the disk if it is full; if the database is damaged, restore an earlier backup",
        ) from error


def _look(database: Database, kind: str) -> Dumped | None:
    with closing(database), database.reading() as connection:
        form = form_of(connection)
        if form is None:
            return None
        head = stored_head(connection)
        return Dumped(kind=kind, form=form, seq=head.seq, hash=head.hash)


def has_content(places: Places) -> bool:
    """Whether there is a database that a restored one would take the place of."""
    if places.file is not None:
        return places.file.is_file() and places.file.stat().st_size > 0
    return _look(Database(places.url), places.kind) is not None


def is_in_use(places: Places) -> bool:
    """Whether another process has the database open, as far as the database can tell."""
    if places.file is not None:
        return places.file.is_file() and _is_sqlite_in_use(places.file)
    # A connection that was closed a moment ago may still be listed.
    for _ in range(LOOKS):
        if not _is_postgres_in_use(places.url):
            return False
        time.sleep(LOOK_S)
    return True


def _is_postgres_in_use(url: URL) -> bool:
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = current_user"
        " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    with closing(Database(url)) as database, database.reading() as connection:
        return bool(connection.execute(text(query)).scalar())


def _is_sqlite_in_use(file: Path) -> bool:
    """Only the last connection may end the write-ahead log; what is in it is then in the file."""
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True, timeout=0)) as connection:
            connection.execute("PRAGMA journal_mode=DELETE").fetchone()
    except sqlite3.OperationalError as error:
        return "locked" in str(error)
    except sqlite3.DatabaseError:
        # It is damaged, which may be why it is to be replaced.
        return False
    return False


def set_tables_aside(places: Places, schema: str) -> None:
    """Move the tables of a server's database into a schema of their own, all or none."""
    try:
        with closing(Database(places.url)) as database, explained(), database.writing() as connection:
            if form_of(connection) is None:
                return
            connection.execute(text(f'CREATE SCHEMA "{schema}"'))
            for name in TABLES:
                connection.execute(text(f'ALTER TABLE IF EXISTS "{name}" SET SCHEMA "{schema}"'))
    except SQLAlchemyError as error:
        raise UserError(
            f"The tables could not be moved into a schema {schema}",
            found=type(getattr(error, "orig", None) or error).__name__,
            hint="allow the database's user to create schemas (GRANT CREATE ON DATABASE), or restore into an empty one",
        ) from error


def has_schema(places: Places, schema: str) -> bool:
    """Whether a server's database has a schema of this name."""
    with closing(Database(places.url)) as database, database.reading() as connection:
        return inspect(connection).has_schema(schema)


def load_tables(places: Places, dumped: Path) -> None:
    """Bring the tables of a dump into a server's database, all or none; where they are, they are left alone."""
    if not has_content(places):
        _run_postgres("pg_restore", places.url, "--single-transaction", "--exit-on-error", *UNOWNED, str(dumped))


def check_programs(*names: str) -> None:
    """Refuse where a program of PostgreSQL's is not installed."""
    for name in names:
        if shutil.which(name) is None:
            raise UserError(
                f"PostgreSQL's program {name} is not installed",
                found="nothing of this name on the PATH",
                hint="install PostgreSQL's client programs: apt-get install postgresql-client, brew install libpq",
            )


def _run_postgres(program: str, url: URL, *options: str) -> None:
    check_programs(program)
    # The password goes through the environment: anybody may read what stands on a command line.
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
        # Later lines may quote rows.
        first = next(iter(done.stderr.splitlines()), f"exit code {done.returncode}")
        raise UserError(
            f"{program} failed", found=first[:LONGEST_ERROR], hint="see whether the database is there and lets you in"
        )
