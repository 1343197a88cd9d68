"""The command `medloop`."""

from __future__ import annotations

import sys

LINE_END = "\n"


def main() -> None:
    """Run a command; errors that the user can fix are printed without a traceback."""
    from medloop.cli import app
    from medloop.cli.faults import user_error
    from medloop.cores import limit_library_threads
    from medloop.storage.names import visible

    limit_library_threads()
    try:
        app()
    except Exception as error:
        shown = user_error(error)
        if shown is None:
            raise
        sys.stderr.write(f"medloop: {visible(str(shown), keep=LINE_END)}\n")
        sys.exit(shown.exit_code)


if __name__ == "__main__":
    main()
