"""The command `medloop`."""

from __future__ import annotations

import sys
from typing import NoReturn

from medloop.errors import UserError


def main() -> None:
    """Run a command; what the user can mend is told without a stack."""
    from medloop.cli import app
    from medloop.cli.extras import missing_extra

    try:
        app()
    except UserError as error:
        _end(error)
    except ModuleNotFoundError as error:
        missing = missing_extra(error)
        if missing is None:
            raise
        _end(missing)


def _end(error: UserError) -> NoReturn:
    sys.stderr.write(f"medloop: {error}\n")
    sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
