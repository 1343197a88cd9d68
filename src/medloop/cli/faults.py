"""Errors of commands as messages for the user."""

from __future__ import annotations

import importlib.metadata
import re

from medloop.errors import UserError

# Libraries whose import name differs from the name of their package.
INSTALLED_AS = {"sklearn": "scikit-learn", "yaml": "pyyaml"}
REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+).*extra == ['\"](?P<extra>\w+)['\"]")


def user_error(error: Exception) -> UserError | None:
    """Return the error as one that the user can fix, or None if it is a bug."""
    from medloop.feedback import FeedbackAway
    from medloop.storage.faults import explain_fault

    if isinstance(error, FeedbackAway):
        # The cause may be a file that is not writable, and then waiting does not help.
        return explain_fault(error) or error
    if isinstance(error, UserError):
        return error
    if isinstance(error, ModuleNotFoundError):
        return missing_extra(error)
    return explain_fault(error)


def missing_extra(error: ModuleNotFoundError) -> UserError | None:
    """Return an error that names the extra with a missing library, or None if no extra has it."""
    module = (error.name or "").split(".", maxsplit=1)[0]
    wanted = INSTALLED_AS.get(module, module).replace("_", "-")
    for line in importlib.metadata.requires("medloop") or []:
        found = REQUIREMENT.match(line)
        if found and found["name"].replace("_", "-").lower() == wanted and found["extra"] not in ("all", "dev"):
            return UserError(
                f"This command needs {wanted}, which is not installed.",
                f"Run `pip install 'medloop[{found['extra']}]'`.",
            )
    return None
