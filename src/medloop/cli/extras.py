"""Which extra of medloop brings a library that is not installed."""

from __future__ import annotations

import importlib.metadata
import re

from medloop.errors import UserError

# Libraries that are imported under another name than they are installed by.
INSTALLED_AS = {"sklearn": "scikit-learn", "yaml": "pyyaml"}
REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+).*extra == ['\"](?P<extra>\w+)['\"]")


def missing_extra(error: ModuleNotFoundError) -> UserError | None:
    """What to install for a library that was looked for in vain; None where no extra has it."""
    module = (error.name or "").split(".", maxsplit=1)[0]
    wanted = INSTALLED_AS.get(module, module).replace("_", "-")
    for line in importlib.metadata.requires("medloop") or []:
        found = REQUIREMENT.match(line)
        if found and found["name"].replace("_", "-").lower() == wanted and found["extra"] not in ("all", "dev"):
            return UserError(
                "this command needs more than the core of medloop",
                found=f"{wanted} is not installed",
                hint=f"pip install medloop[{found['extra']}]",
            )
    return None
