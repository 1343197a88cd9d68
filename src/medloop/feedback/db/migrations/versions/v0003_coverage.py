"""No new tables: from here on the journal covers the names of keys, and which row values are kept."""

from __future__ import annotations

revision = "0003"
down_revision: str | None = "0002"


def upgrade() -> None:
    """Change nothing; `medloop db upgrade` writes a journal entry that covers the existing rows."""
