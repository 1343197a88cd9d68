"""The command `medloop`."""

from __future__ import annotations

import sys

from medloop.errors import UserError


def main() -> None:
    """Run a command; what the user can mend is told without a stack."""
    from medloop.cli import app

    try:
        app()
    except UserError as error:
        sys.stderr.write(f"medloop: {error}\n")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
