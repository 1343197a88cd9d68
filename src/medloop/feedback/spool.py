"""A file that takes what the database cannot, line by line, until it can."""

from __future__ import annotations

import fcntl
import hmac
import os
import secrets
from collections.abc import Generator, Sequence
from pathlib import Path

from medloop.feedback.chain import Signer
from medloop.feedback.operations import Operation
from medloop.feedback.records import FeedbackAway

ROOM_FOR = 200


class SpoolFile:
    """One file of lines, which belongs to whoever holds its lock."""

    def __init__(self, path: Path, handle: int) -> None:
        self.path, self._handle = path, handle
        self.size = os.fstat(handle).st_size

    @classmethod
    def claim(cls, path: Path) -> SpoolFile | None:
        """Open the file, or make it; None where another process has it."""
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), path.stat()):
                return cls(path, handle)
        except (BlockingIOError, FileNotFoundError):
            pass
        os.close(handle)
        return None

    def append(self, text: bytes) -> None:
        """Add lines; they are on the disk when this returns, or the file is as before."""
        try:
            if os.write(self._handle, text) != len(text):
                raise OSError("the disk is full")
            os.fsync(self._handle)
        except OSError:
            os.ftruncate(self._handle, self.size)
            raise
        self.size += len(text)

    def read(self, offset: int) -> tuple[list[str], int]:
        """Some whole lines from an offset on, and where the next ones begin."""
        with self.path.open("rb") as file:
            file.seek(offset)
            lines: list[str] = []
            for line in file:
                # A killed process leaves half a line, which nobody was told is stored.
                if len(lines) == ROOM_FOR or not line.endswith(b"\n"):
                    break
                lines.append(line.decode())
                offset += len(line)
        return lines, offset

    def remove(self) -> None:
        """Remove the file, whose lines are all in the database."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Leave the file to whoever comes next."""
        os.close(self._handle)


class Spool:
    """The folder of such files: one for each process, and those that killed ones left."""

    def __init__(self, folder: Path, signer: Signer, *, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self._signer = signer
        self.file: SpoolFile | None = None

    @property
    def size(self) -> int:
        """How many bytes wait in this process's file."""
        return self.file.size if self.file else 0

    def append(self, operations: Sequence[Operation]) -> None:
        """Keep some operations until the database is back."""
        lines = [operation.to_line() for operation in operations]
        text = "".join(f"{self._signer.text(line)} {line}\n" for line in lines).encode()
        if self.size + len(text) > self.limit:
            raise _full(f"{self.size} bytes wait for the database")
        try:
            if self.file is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                self.file = SpoolFile.claim(self.folder / f"{secrets.token_hex(8)}.jsonl")
            assert self.file is not None  # noqa: S101 - a new name is nobody else's
            self.file.append(text)
        except OSError as error:
            raise _full(error.strerror or "the disk takes no more") from error

    def orphans(self) -> Generator[SpoolFile]:
        """The files of processes that have ended, one at a time; one that is not removed is left for later."""
        for path in sorted(self.folder.glob("*.jsonl")):
            if self.file is not None and path == self.file.path:
                continue
            if (file := SpoolFile.claim(path)) is not None:
                try:
                    yield file
                finally:
                    file.close()

    def parse(self, line: str) -> Operation:
        """The operation of a line that this project wrote."""
        mac, _, text = line.rstrip("\n").partition(" ")
        if not hmac.compare_digest(mac, self._signer.text(text)):
            raise ValueError("a spooled line is not signed with the journal's key")
        return Operation.from_line(text)

    def set_aside(self, line: str) -> None:
        """Keep a line that the database does not take, for a person to look at."""
        with (self.folder / "refused.txt").open("a", encoding="utf-8") as file:
            file.write(line)

    def done(self) -> None:
        """This process's file is in the database as a whole."""
        if self.file is not None:
            self.file.remove()
            self.close()

    def close(self) -> None:
        """Leave what waits to the next process."""
        if self.file is not None:
            self.file.close()
            self.file = None


def _full(found: str) -> FeedbackAway:
    return FeedbackAway(
        "what the database cannot take must fit into the spool",
        found=found,
        hint="bring the database back; the limit is feedback.spool_mib in the settings",
    )
