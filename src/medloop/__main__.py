"""The command `medloop`."""

from __future__ import annotations

import errno
import sys
from typing import NoReturn

from medloop.errors import UserError

# The system names no file in these.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main() -> None:
    """Run a command; what the user can mend is told without a stack."""
    from medloop.cli import app
    from medloop.cli.extras import missing_extra
    from medloop.cores import bound_libraries

    bound_libraries()

    try:
        app()
    except UserError as error:
        _end(error)
    except ModuleNotFoundError as error:
        missing = missing_extra(error)
        if missing is None:
            raise
        _end(missing)
    except OSError as error:
        # What names no file of the system's is a sign of something else, such as a connection that broke.
        if error.strerror is None or (error.filename is None and error.errno not in FULL):
            raise
        _end(
            UserError(
                "the files of a command must be readable and writable",
                found=f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror,
                hint="make room, or mend the path or its rights; then run the command again",
            )
        )


def _end(error: UserError) -> NoReturn:
    sys.stderr.write(f"medloop: {error}\n")
    sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
