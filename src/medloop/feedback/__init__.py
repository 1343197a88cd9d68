"""The feedback store: predictions, corrections, reviews, API keys and the journal, in one SQL database."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medloop.errors import UserError
from medloop.feedback.records import ROLES, Answered, FeedbackAway, Key, Role, Slice, Status, StoredPrediction
from medloop.settings import FeedbackSettings
from medloop.storage.faults import explain_fault

if TYPE_CHECKING:
    from medloop.feedback.store import Feedback

# The file that an interrupted restore leaves in a project.
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
    """Refuse a project whose restore was interrupted."""
    if (root / UNFINISHED).exists():
        raise UserError(
            "A restore of this project was interrupted, so it is only partly restored.",
            "Run the same `medloop restore` again; it continues where it stopped.",
        )


def open_feedback(
    settings: FeedbackSettings, *, root: Path, migrate: bool = False, begin: bool = True, restoring: bool = False
) -> Feedback:
    """Open the project's feedback store; an older database is upgraded only with `migrate`.

    With `begin`, a missing SQLite file is created. Only the restore itself may open a partly restored project.
    """
    if not restoring:
        check_restored(root)
    # SQLAlchemy is slow to import, and most commands do not need it.
    from medloop.feedback.db.database import database_url
    from medloop.feedback.store import Feedback

    try:
        return Feedback.open(settings, root=root, migrate=migrate, begin=begin)
    except FeedbackAway as error:
        # Retrying does not help where the file is not writable.
        file = Path(str(database_url(settings, root).database))
        if fault := explain_fault(error, file=file):
            raise fault from error
        raise
