"""What a command tells of an error that escapes it."""

from __future__ import annotations

from medloop.cli.extras import missing_extra
from medloop.errors import UserError


def user_error(error: Exception) -> UserError | None:
    """Return what the user can mend; None where the error is a bug."""
    from medloop.feedback import FeedbackAway
    from medloop.storage.faults import explain_fault

    if isinstance(error, FeedbackAway):
        # What does not answer may be a file that cannot be written, and then waiting does not help.
        return explain_fault(error) or error
    if isinstance(error, UserError):
        return error
    if isinstance(error, ModuleNotFoundError):
        return missing_extra(error)
    return explain_fault(error)
