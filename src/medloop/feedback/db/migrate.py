"""Creating and upgrading the tables of the database."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from sqlalchemy import Connection, insert, inspect, select, table, text
from sqlalchemy import column as named

from medloop.errors import UserError
from medloop.feedback.db.database import Database
from medloop.feedback.db.faults import explained
from medloop.feedback.db.tables import FIRST_HEAD, journal_head, metadata
from medloop.storage import file_lock

NEWEST = "0003"
# Writes into the journal what an older schema version did not cover.
RecordUpgrade = Callable[[Connection, str], None]
SCRIPTS = Path(__file__).with_name("migrations")
# An arbitrary number that no other program locks.
UPGRADE_LOCK = 7_301_934


def prepare_database(
    database: Database, *, trace: str | None, migrate: bool, begin: bool = True, record: RecordUpgrade | None = None
) -> None:
    """Create or upgrade the tables if that is allowed, else raise an error that says what to do.

    `trace` names evidence of an earlier database. Callers look for it first, since another process may begin a new
    database in the meantime.
    """
    found = None
    if database.file is None or database.file.exists():
        with database.reading() as connection:
            found = schema_version(connection)
    if found == NEWEST:
        return
    if found is None and trace is not None:
        state = "has no tables" if database.file is None or database.file.exists() else "is missing"
        raise UserError(
            f"The feedback database {state}, but {trace} shows that it held a journal.",
            "Restore it from a backup; to begin a new journal on purpose, first move feedback.head and the folder "
            "feedback.spool elsewhere.",
        )
    if found is None and database.file is not None and not begin:
        raise UserError(
            f"There is no feedback database {database.file.name} here.",
            "Change to the project's folder; `medloop serve` and `medloop keys create` create the database.",
        )
    if migrate or (found is None and database.file is not None):
        database.make_file()
        upgrade(database, record)
        database.settle()
        return
    if found is not None and found > NEWEST:
        raise UserError(
            f"The feedback database has schema version {found}, and this medloop knows versions up to {NEWEST}.",
            "Install the newer medloop that created it.",
        )
    state = "no tables" if found is None else f"schema version {found}"
    raise UserError(
        f"The feedback database has {state}; {NEWEST} is needed.", "Back it up, then run `medloop db upgrade`."
    )


def schema_version(connection: Connection) -> str | None:
    """Return the schema version of the database, or None while it has no tables."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(select(named("version_num")).select_from(table("alembic_version"))).scalar()


def upgrade(database: Database, record: RecordUpgrade | None = None) -> str | None:
    """Run the missing migrations, one process at a time, and return the version before."""
    with explained(), ExitStack() as stack:
        if database.file is not None:
            stack.enter_context(file_lock(database.file.with_name(f".{database.file.name}.lock")))
        connection = stack.enter_context(database.writing())
        if database.file is None:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": UPGRADE_LOCK})
        before = schema_version(connection)
        if before is None and database.file is not None:
            create_tables(connection)
        elif before != NEWEST:
            run_migrations(connection)
            if before is not None and record is not None:
                record(connection, NEWEST)
    return before


def create_tables(connection: Connection) -> None:
    """Create the newest tables directly: alembic is slow to import, and the first prediction would wait for it."""
    metadata.create_all(connection)
    connection.execute(insert(journal_head).values(FIRST_HEAD))
    # As alembic creates it, so that its migrations continue from here.
    connection.exec_driver_sql(
        "CREATE TABLE alembic_version ("
        "version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
    )
    connection.execute(text("INSERT INTO alembic_version VALUES (:version)"), {"version": NEWEST})


def run_migrations(connection: Connection) -> None:
    """Run the missing migrations."""
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    command.upgrade(config, NEWEST)
