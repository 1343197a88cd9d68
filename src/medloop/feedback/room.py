"""Private files, and whether a folder takes any more of them."""

from __future__ import annotations

import secrets
from contextlib import suppress
from pathlib import Path

# As much as a few answers need.
TRIAL = 2**16


def write_private(path: Path, data: bytes) -> Path:
    """A file that only its owner may read; nothing is left of one that could not be written."""
    try:
        path.touch(mode=0o600)
        path.write_bytes(data)
    except OSError:
        with suppress(OSError):
            path.unlink()
        raise
    return path


def check_room(folder: Path) -> None:
    """Raise what stands in the way of a new file in this folder."""
    write_private(folder / f".{secrets.token_hex(8)}.partial", bytes(TRIAL)).unlink()
