"""The command `medloop`."""

from __future__ import annotations

import sys

LINE_END = "\n"


def main() -> None:
    """Run a command; what the user can mend is told without a stack."""
    from medloop.cli import app
    from medloop.cli.faults import user_error
    from medloop.cores import bound_libraries
    from medloop.storage.names import visible

    bound_libraries()
    try:
        app()
    except Exception as error:
        told = user_error(error)
        if told is None:
            raise
        sys.stderr.write(f"medloop: {visible(str(told), keep=LINE_END)}\n")
        sys.exit(told.exit_code)


if __name__ == "__main__":
    main()
