"""Predictions, corrections, reviews, keys and the journal, in one SQL database."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medloop.errors import UserError
from medloop.feedback.records import ROLES, Answered, FeedbackAway, Key, Role, Slice, Status, StoredPrediction
from medloop.settings import FeedbackSettings
from medloop.storage.faults import explain_fault

if TYPE_CHECKING:
    from medloop.feedback.store import Feedback

# What a restore that was interrupted leaves in a project.
UNFINISHED = ".restore.json"

__all__ = [
    "ROLES",
    "UNFINISHED",
    "Answered",
    "FeedbackAway",
    "Key",
    "Role",
    "Slice",
    "Status",
    "StoredPrediction",
    "check_restored",
    "open_feedback",
]


def check_restored(root: Path) -> None:
    """Refuse a project that is only partly restored."""
    if (root / UNFINISHED).exists():
        raise UserError(
            "A restore was interrupted here",
            found="a project that is only partly restored",
            hint="run the same `medloop restore` again: it goes on where it was",
        )


def open_feedback(
    settings: FeedbackSettings, *, root: Path, migrate: bool = False, begin: bool = True, restoring: bool = False
) -> Feedback:
    """The project's feedback store; an older database is brought up only with `migrate`.

    With `begin` a SQLite file is made where there is none. Only whoever is `restoring` it may open one that is partly
    restored.
    """
    if not restoring:
        check_restored(root)
    # SQLAlchemy takes a while to load, and most commands do not need it.
    from medloop.feedback.database import database_url
    from medloop.feedback.store import Feedback

    try:
        return Feedback.open(settings, root=root, migrate=migrate, begin=begin)
    except FeedbackAway as error:
        # Trying again will not help where the file may not be written.
        file = Path(str(database_url(settings, root).database))
        if fault := explain_fault(error, file=file):
            raise fault from error
        raise
