"""A file that takes what the database cannot, line by line, until it can."""

from __future__ import annotations

import errno
import fcntl
import hmac
import logging
import os
import secrets
from collections.abc import Generator, Sequence
from pathlib import Path

from medloop.feedback.chain import Signer
from medloop.feedback.operations import Operation
from medloop.feedback.records import FeedbackAway

LOG = logging.getLogger(__name__)
ROOM_FOR = 200
CHUNK = 2**20


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
        before = os.fstat(self._handle).st_size
        # Half a line that is not ours must not spoil the next one.
        if before and os.pread(self._handle, 1, before - 1) != b"\n":
            text = b"\n" + text
        try:
            if os.write(self._handle, text) != len(text):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._handle)
        except OSError:
            os.ftruncate(self._handle, before)
            raise
        self.size = before + len(text)

    @property
    def is_gone(self) -> bool:
        """Whether the file was removed or moved, so that nobody would find it after this process."""
        try:
            return not os.path.samestat(os.fstat(self._handle), self.path.stat())
        except FileNotFoundError:
            return True

    def read(self, offset: int) -> tuple[list[bytes], int]:
        """Some whole lines from an offset on, and where the next ones begin."""
        length, lines = CHUNK, [b""]
        # A killed process leaves half a line, which nobody was told is stored.
        while len(lines) == 1 and len(chunk := os.pread(self._handle, length, offset)) > len(lines[0]):
            length, lines = 2 * length, chunk.split(b"\n")
        whole = [line + b"\n" for line in lines[:-1][:ROOM_FOR]]
        return whole, offset + sum(map(len, whole))

    def copy_to(self, other: SpoolFile) -> None:
        """Add all that is in here to another file."""
        offset = 0
        while offset < self.size:
            chunk = os.pread(self._handle, CHUNK, offset)
            other.append(chunk)
            offset += len(chunk)

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
        # Why the last lines could not be kept.
        self.fault: str | None = None
        self._unreadable: set[Path] = set()

    @property
    def size(self) -> int:
        """How many bytes wait in this process's file."""
        return self.file.size if self.file else 0

    def append(self, operations: Sequence[Operation]) -> None:
        """Keep some operations until the database is back."""
        lines = [operation.to_line() for operation in operations]
        text = "".join(f"{self._signer.text(line)} {line}\n" for line in lines).encode()
        if self.size + len(text) > self.limit:
            raise self._full(f"{self.size} bytes wait for the database")
        try:
            self._writable().append(text)
        except OSError as error:
            raise self._full(error.strerror or type(error).__name__) from error
        self.fault = None

    def _writable(self) -> SpoolFile:
        """This process's file, made anew where it was removed."""
        if self.file is not None and not self.file.is_gone:
            return self.file
        self.folder.mkdir(parents=True, exist_ok=True)
        # An empty file may be taken for one that a killed process left, before it is locked.
        while (new := SpoolFile.claim(self.folder / f"{secrets.token_hex(8)}.jsonl")) is None:
            pass
        if self.file is not None:
            LOG.error("a file of the spool was removed; what was in it is written again")
            self.file.copy_to(new)
            self.file.close()
        self.file = new
        return new

    def orphans(self) -> Generator[SpoolFile]:
        """The files of processes that have ended, one at a time; one that is not removed is left for later."""
        for path in sorted(self.folder.glob("*.jsonl")):
            if self.file is not None and path == self.file.path:
                continue
            if (file := self._claim(path)) is not None:
                try:
                    yield file
                finally:
                    file.close()

    def _claim(self, path: Path) -> SpoolFile | None:
        try:
            return SpoolFile.claim(path) if path.is_file() else None
        except OSError as error:
            # The others go on; whoever looks after the service has to make it readable.
            if path not in self._unreadable:
                LOG.error("a file of the spool cannot be opened (%s) and waits", error.strerror)  # noqa: TRY400
            self._unreadable.add(path)
            return None

    def parse(self, line: bytes) -> Operation:
        """The operation of a line that this project wrote."""
        mac, _, text = line.decode().rstrip("\n").partition(" ")
        if not hmac.compare_digest(mac.encode(), self._signer.text(text).encode()):
            raise ValueError("a spooled line is not signed with the journal's key")
        return Operation.from_line(text)

    def set_aside(self, line: bytes) -> None:
        """Keep a line that the database does not take, for a person to look at."""
        with (self.folder / "refused.txt").open("ab") as file:
            file.write(line)

    def has_lines(self, offset: int) -> bool:
        """Whether anything stands in this process's file from an offset on."""
        return self.file is not None and bool(self.file.read(offset)[0])

    def done(self) -> None:
        """This process's file is in the database as a whole."""
        self.fault = None
        if self.file is not None:
            self.file.remove()
            self.close()

    def close(self) -> None:
        """Leave what waits to the next process."""
        if self.file is not None:
            self.file.close()
            self.file = None

    def _full(self, found: str) -> FeedbackAway:
        self.fault = f"the spool takes no more answers ({found})"
        return FeedbackAway(
            "The answer could not be stored: the database is away, and the spool takes no more",
            found=found,
            hint="restore the database; the limit is feedback.spool_mib in the settings",
        )
