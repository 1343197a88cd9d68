"""The journal's head outside the database: in a file on this machine, and optionally elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

from medloop.errors import UserError
from medloop.feedback.records import Head
from medloop.storage import atomic_file, objects

FIRST = "0" * 64
EMPTY = Head(seq=0, hash=FIRST, signature="-")
# How long to wait for the object store.
TIMEOUT_S = 10.0


def read_head(file: Path | None) -> Head | None:
    """Return the head in the file, or None."""
    if file is None or not file.is_file():
        return None
    try:
        return _parse_head(file.read_bytes())
    except OSError:
        return None


def write_head(file: Path, head: Head) -> None:
    """Write the head to its file, without a sync: after a power cut it may be older, but still shows a truncation."""
    handle = os.open(file, os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        # A single write in place, which a killed process has either done or not.
        os.pwrite(handle, _format_head(head), 0)
    finally:
        os.close(handle)


def _format_head(head: Head) -> bytes:
    return f"{head.seq:>20} {head.hash} {head.signature}\n".encode()


def _parse_head(content: bytes) -> Head | None:
    try:
        seq, digest, signature = content.decode().split()
        return Head(seq=int(seq), hash=digest, signature=signature)
    except ValueError:
        return None


def trace_of_journal(head: Path | None, spool: Path) -> str | None:
    """Return what shows, outside the database, that there was a journal, or None."""
    known = read_head(head)
    if head is not None and known is not None and known.seq > 0:
        return f"{head.name} (entry {known.seq})"
    waiting = any(path.is_file() and path.stat().st_size for path in spool.glob("*.jsonl"))
    return f"{spool.name} (predictions waiting for it)" if waiting else None


class HeadCopy:
    """A copy of the head in another place, out of reach of those who can write to the database."""

    def __init__(self, place: str, root: Path) -> None:
        if "://" in place and not place.startswith("s3://"):
            raise UserError(
                f"feedback.head has the unsupported scheme {place.partition('://')[0]}.",
                "Use a file on another disk, or an object such as s3://bucket/feedback.head.",
            )
        self._file = None if place.startswith("s3://") else root / place
        self._place = place

    def read(self) -> Head | None:
        """Return the copy, or None if there is none yet."""
        if self._file is None:
            content = objects.read(self._place, seconds=TIMEOUT_S)
        else:
            content = self._file.read_bytes() if self._file.exists() else None
        return None if content is None else _parse_head(content) or Head(seq=0, hash="", signature="")

    def write(self, head: Head) -> None:
        """Replace the copy."""
        if self._file is None:
            objects.write(self._place, _format_head(head))
            return
        with atomic_file(self._file) as file:
            file.write(_format_head(head))
