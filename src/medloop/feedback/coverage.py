"""What the journal says once about all that was stored before it covered as much as it does now."""

from __future__ import annotations

import json
import secrets

from sqlalchemy import Connection, func, select

from medloop.feedback import tables
from medloop.feedback.chain import Event
from medloop.feedback.keys import KEY
from medloop.feedback.records import now

UPGRADE = "upgrade"


def upgrade_event(connection: Connection, *, form: str) -> Event:
    """The names and dates of the keys that the journal knows, and since when the values of every row are kept."""
    journal, keys, predictions = tables.journal.c, tables.keys.c, tables.predictions.c
    contents = connection.execute(select(journal.content).where(journal.kind == KEY)).scalars()
    known = {json.loads(content)["key"] for content in contents}
    rows = connection.execute(select(keys.id, keys.name, keys.created))
    # A key that somebody put there by hand stays unknown.
    named = {row.id: {"name": row.name, "created": row.created} for row in rows if row.id in known}
    missing = (predictions.kind == "table") & predictions.row.is_(None)
    kept_after = connection.execute(select(func.max(predictions.at)).where(missing)).scalar() or ""
    content = {"form": form, "keys": named, "kept_after": kept_after}
    return Event(kind=UPGRADE, ref=secrets.token_hex(16), at=now(), content=content)
