"""Files that only their owner can read, and whether a folder has space for more of them."""

from __future__ import annotations

import secrets
from contextlib import suppress
from pathlib import Path

# As much as a few predictions need.
TRIAL_BYTES = 2**16


def write_private(path: Path, data: bytes) -> Path:
    """Write a file that only its owner can read; nothing is left of one that could not be written."""
    try:
        path.touch(mode=0o600)
        path.write_bytes(data)
    except OSError:
        with suppress(OSError):
            path.unlink()
        raise
    return path


def check_room(folder: Path) -> None:
    """Raise OSError if no new file can be written in this folder."""
    write_private(folder / f".{secrets.token_hex(8)}.partial", bytes(TRIAL_BYTES)).unlink()
