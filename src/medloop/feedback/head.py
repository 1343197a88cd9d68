"""The journal's newest entry, kept apart from the database: in a file of this machine, and perhaps elsewhere, too."""

from __future__ import annotations

import os
from pathlib import Path

from medloop.errors import UserError
from medloop.feedback.records import Head
from medloop.storage import atomic_file, objects

FIRST = "0" * 64
EMPTY = Head(seq=0, hash=FIRST, signature="-")
# How long an object store may take to show a head.
ANSWER_S = 10.0


def read_head(file: Path | None) -> Head | None:
    """The head as the file beside the database has it."""
    if file is None or not file.is_file():
        return None
    try:
        return _head_in(file.read_bytes())
    except OSError:
        return None


def write_head(file: Path, head: Head) -> None:
    """Keep the head apart from the database, quickly: a power cut may leave an older one, which still shows a cut."""
    handle = os.open(file, os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        # One write in place, which a killed process has either made or not.
        os.pwrite(handle, _text_of(head), 0)
    finally:
        os.close(handle)


def _text_of(head: Head) -> bytes:
    return f"{head.seq:>20} {head.hash} {head.signature}\n".encode()


def _head_in(content: bytes) -> Head | None:
    try:
        seq, digest, signature = content.decode().split()
        return Head(seq=int(seq), hash=digest, signature=signature)
    except ValueError:
        return None


class HeadCopy:
    """The head at another place, out of reach of whoever can write to the database."""

    def __init__(self, place: str, root: Path) -> None:
        if "://" in place and not place.startswith("s3://"):
            raise UserError(
                "feedback.head is no place for a copy of the journal's head",
                found=place.partition("://")[0],
                hint="name a file on another disk or an object: s3://bucket/feedback.head",
            )
        self._file = None if place.startswith("s3://") else root / place
        self._place = place

    def read(self) -> Head | None:
        """The head that is kept there; None where there is none yet."""
        if self._file is None:
            content = objects.read(self._place, seconds=ANSWER_S)
        else:
            content = self._file.read_bytes() if self._file.exists() else None
        return None if content is None else _head_in(content) or Head(seq=0, hash="", signature="")

    def write(self, head: Head) -> None:
        """Keep this one."""
        if self._file is None:
            objects.write(self._place, _text_of(head))
            return
        with atomic_file(self._file) as file:
            file.write(_text_of(head))
