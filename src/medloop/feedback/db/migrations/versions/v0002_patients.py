"""Predictions for patients, and their slices."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision: str | None = "0001"


def upgrade() -> None:
    """Add the columns; earlier predictions stay unchanged."""
    for name in ("patient", "slices"):
        op.add_column("predictions", sa.Column(name, sa.Text))
