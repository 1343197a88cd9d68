"""Bringing a database to the form that this version of medloop knows."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from sqlalchemy import Connection, insert, inspect, select, table, text
from sqlalchemy import column as named

from medloop.errors import UserError
from medloop.feedback.database import Database
from medloop.feedback.faults import explained
from medloop.feedback.head import read_head
from medloop.feedback.tables import FIRST_HEAD, journal_head, metadata
from medloop.storage import file_lock

NEWEST = "0003"
# Writes into the journal what it did not say of things in an older form.
Cover = Callable[[Connection, str], None]
SCRIPTS = Path(__file__).with_name("migrations")
# Any number that nobody else locks.
UPGRADE_LOCK = 7_301_934


def bring_up(
    database: Database, *, left: tuple[Path | None, Path], migrate: bool, begin: bool = True, cover: Cover | None = None
) -> None:
    """Make or change the tables where that is allowed, else say what must be done.

    `left` are the file of the journal's head and the folder of the spool, which show that there was a database.
    """
    # Looked at first: what another process begins meanwhile is no trace of an older database.
    trace = trace_of_journal(*left)
    found = None
    if database.file is None or database.file.exists():
        with database.reading() as connection:
            found = form_of(connection)
    if found == NEWEST:
        return
    if found is None and trace is not None:
        what = "has no tables" if database.file is None or database.file.exists() else "is missing"
        raise UserError(
            f"The feedback database {what}, but {trace} shows that it held a journal",
            found="no database to go on with",
            hint="restore it from a backup; to begin a new journal on purpose, "
            "move feedback.head and the folder feedback.spool elsewhere first",
        )
    if found is None and database.file is not None and not begin:
        raise UserError(
            "There is no feedback database here",
            found=f"no {database.file.name}",
            hint="go into the project's folder; `medloop serve` and `medloop keys create` make one where there is none",
        )
    if migrate or (found is None and database.file is not None):
        database.make_file()
        upgrade(database, cover)
        database.settle()
        return
    if found is not None and found > NEWEST:
        raise UserError(
            "the feedback database must be of a form that this medloop knows",
            found=f"form {found}, and this medloop knows {NEWEST}",
            hint="install the newer medloop that made it",
        )
    raise UserError(
        f"the feedback database must be of form {NEWEST}",
        found="no tables" if found is None else f"form {found}",
        hint="back it up, then run `medloop db upgrade`",
    )


def trace_of_journal(head: Path | None, spool: Path) -> str | None:
    """What beside the database shows that a journal was begun."""
    known = read_head(head)
    if head is not None and known is not None and known.seq > 0:
        return f"{head.name} (entry {known.seq})"
    waiting = any(path.is_file() and path.stat().st_size for path in spool.glob("*.jsonl"))
    return f"{spool.name} (answers that wait for it)" if waiting else None


def form_of(connection: Connection) -> str | None:
    """The form that the database is in; None while it has no tables."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(select(named("version_num")).select_from(table("alembic_version"))).scalar()


def upgrade(database: Database, cover: Cover | None = None) -> str | None:
    """Run the steps that are missing, one process at a time; the form that was there before."""
    with explained(), ExitStack() as stack:
        if database.file is not None:
            stack.enter_context(file_lock(database.file.with_name(f".{database.file.name}.lock")))
        connection = stack.enter_context(database.writing())
        if database.file is None:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": UPGRADE_LOCK})
        before = form_of(connection)
        if before is None and database.file is not None:
            make_tables(connection)
        elif before != NEWEST:
            run_steps(connection)
            if before is not None and cover is not None:
                cover(connection, NEWEST)
    return before


def make_tables(connection: Connection) -> None:
    """The newest form at once: alembic takes longer to load than the whole rest, and a first answer waits for it."""
    metadata.create_all(connection)
    connection.execute(insert(journal_head).values(FIRST_HEAD))
    # As alembic makes it, so that its steps go on from here.
    connection.exec_driver_sql(
        "CREATE TABLE alembic_version ("
        "version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
    )
    connection.execute(text("INSERT INTO alembic_version VALUES (:form)"), {"form": NEWEST})


def run_steps(connection: Connection) -> None:
    """The migrations that are missing."""
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    command.upgrade(config, NEWEST)
