"""Check that the database has medloop's tables unchanged, and no triggers or views that others added."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, inspect, text

from medloop.feedback.db.tables import metadata

VERSION_TABLE = "alembic_version"
SQLITE_TRIGGERS = "SELECT 'trigger ' || name FROM sqlite_master WHERE type = 'trigger' ORDER BY name"
POSTGRES_TRIGGERS = """
SELECT 'trigger ' || tgname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
WHERE NOT tgisinternal AND relnamespace = current_schema()::regnamespace
UNION ALL SELECT 'rule ' || rulename FROM pg_rules WHERE schemaname = current_schema()
UNION ALL SELECT 'policy ' || policyname FROM pg_policies WHERE schemaname = current_schema()
ORDER BY 1
"""


def schema_problems(connection: Connection) -> list[str]:
    """Return what is missing in the database, and what was added to it."""
    problems = [f"the database has {name}, which medloop did not create" for name in _additions(connection)]
    return problems + [
        f"the database's tables differ from those that medloop created: {one}" for one in _differences(connection)
    ]


def _additions(connection: Connection) -> Iterator[str]:
    is_sqlite = connection.dialect.name == "sqlite"
    yield from connection.execute(text(SQLITE_TRIGGERS if is_sqlite else POSTGRES_TRIGGERS)).scalars()
    inspector = inspect(connection)
    yield from (f"view {name}" for name in sorted(inspector.get_view_names()))
    if is_sqlite:
        # On a server, other programs may have tables.
        known = {VERSION_TABLE, *metadata.tables}
        yield from (f"table {name}" for name in sorted(set(inspector.get_table_names()) - known))


def _differences(connection: Connection) -> Iterator[str]:
    """Yield tables, columns and indexes that are missing, changed or added to medloop's tables."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    options = {"include_name": _is_ours, "compare_type": True}
    for found in compare_metadata(MigrationContext.configure(connection, opts=options), metadata):
        for one in found if isinstance(found, list) else [found]:
            yield _describe(one)


def _is_ours(name: str | None, kind: str, _: Any) -> bool:
    return name in metadata.tables if kind == "table" else True


def _describe(difference: Sequence[Any]) -> str:
    """Describe a difference that alembic found, which it names by the operation that would remove it."""
    operation, *what = difference
    if operation in ("add_table", "remove_table"):
        return f"table {what[0].name} is {_state(operation)}"
    if operation in ("add_column", "remove_column"):
        return f"column {what[1]}.{what[2].name} is {_state(operation)}"
    if operation.startswith("modify_"):
        return f"column {what[1]}.{what[2]} has a different {operation.removeprefix('modify_')}"
    kind, name = operation.partition("_")[2], what[0].name or "without a name"
    return f"{kind} {name} of {what[0].table.name} is {_state(operation)}"


def _state(operation: str) -> str:
    return "missing" if operation.startswith("add") else "unexpected"
