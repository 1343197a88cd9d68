"""Files that hold operations, one a line, while the database is unavailable."""

from __future__ import annotations

import errno
import fcntl
import hmac
import logging
import os
import secrets
from collections.abc import Generator, Sequence
from pathlib import Path

from medloop.feedback.journal.chain import Signer
from medloop.feedback.operations import Operation
from medloop.feedback.records import FeedbackAway

LOG = logging.getLogger(__name__)
MAX_LINES = 200
CHUNK = 2**20


class SpoolFile:
    """A file of lines, owned by the process that holds its lock."""

    def __init__(self, path: Path, handle: int) -> None:
        self.path, self._handle = path, handle
        self.size = os.fstat(handle).st_size

    @classmethod
    def claim(cls, path: Path) -> SpoolFile | None:
        """Open or create the file; return None if another process owns it."""
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
        """Add lines; they are synced when this returns, and after an error the file is unchanged."""
        before = os.fstat(self._handle).st_size
        # An incomplete last line must not damage the next one.
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
        """Return whether the file was removed or moved, so that a later process would not find it."""
        try:
            return not os.path.samestat(os.fstat(self._handle), self.path.stat())
        except FileNotFoundError:
            return True

    def read(self, offset: int) -> tuple[list[bytes], int]:
        """Return some complete lines from an offset on, and the offset behind them."""
        length, lines = CHUNK, [b""]
        # A killed process may leave an incomplete line, which was not confirmed to any caller.
        while len(lines) == 1 and len(chunk := os.pread(self._handle, length, offset)) > len(lines[0]):
            length, lines = 2 * length, chunk.split(b"\n")
        whole = [line + b"\n" for line in lines[:-1][:MAX_LINES]]
        return whole, offset + sum(map(len, whole))

    def copy_to(self, other: SpoolFile) -> None:
        """Append the content to another file."""
        offset = 0
        while offset < self.size:
            chunk = os.pread(self._handle, CHUNK, offset)
            other.append(chunk)
            offset += len(chunk)

    def remove(self) -> None:
        """Remove the file, all of whose lines are in the database."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Release the file."""
        os.close(self._handle)


class Spool:
    """The folder of such files: one of each process, and those left by killed ones."""

    def __init__(self, folder: Path, signer: Signer, *, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self._signer = signer
        self.file: SpoolFile | None = None
        # Why the last lines could not be written.
        self.fault: str | None = None
        self._unreadable: set[Path] = set()

    @property
    def size(self) -> int:
        """Return how many bytes this process's file holds."""
        return self.file.size if self.file else 0

    def append(self, operations: Sequence[Operation]) -> None:
        """Store operations until the database is available."""
        lines = [operation.to_line() for operation in operations]
        text = "".join(f"{self._signer.text(line)} {line}\n" for line in lines).encode()
        if self.size + len(text) > self.limit:
            raise self._full(f"{self.size:,} bytes are waiting")
        try:
            self._writable().append(text)
        except OSError as error:
            raise self._full(error.strerror or type(error).__name__) from error
        self.fault = None

    def _writable(self) -> SpoolFile:
        """Return this process's file, created again if it was removed."""
        if self.file is not None and not self.file.is_gone:
            return self.file
        self.folder.mkdir(parents=True, exist_ok=True)
        # Before it is locked, another process may take the empty file for one left by a killed process.
        while (new := SpoolFile.claim(self.folder / f"{secrets.token_hex(8)}.jsonl")) is None:
            pass
        if self.file is not None:
            LOG.error("a file of the spool was removed; its content is written again")
            self.file.copy_to(new)
            self.file.close()
        self.file = new
        return new

    def orphans(self) -> Generator[SpoolFile]:
        """Yield the files of ended processes, one at a time; one that is not removed is left for later."""
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
            # The other files continue; a person has to make this one readable.
            if path not in self._unreadable:
                LOG.error("a file of the spool cannot be opened (%s) and is kept for later", error.strerror)  # noqa: TRY400
            self._unreadable.add(path)
            return None

    def parse(self, line: bytes) -> Operation:
        """Return the operation of a line, after checking that this project signed it."""
        mac, _, text = line.decode().rstrip("\n").partition(" ")
        if not hmac.compare_digest(mac.encode(), self._signer.text(text).encode()):
            raise ValueError("a spooled line is not signed with the journal's key")
        return Operation.from_line(text)

    def set_aside(self, line: bytes) -> None:
        """Keep a line that was refused, for a person to look at."""
        with (self.folder / "refused.txt").open("ab") as file:
            file.write(line)

    def has_lines(self, offset: int) -> bool:
        """Return whether this process's file has lines from an offset on."""
        return self.file is not None and bool(self.file.read(offset)[0])

    def finish(self) -> None:
        """Remove this process's file, all of which is in the database."""
        self.fault = None
        if self.file is not None:
            self.file.remove()
            self.close()

    def close(self) -> None:
        """Leave the remaining lines to the next process."""
        if self.file is not None:
            self.file.close()
            self.file = None

    def _full(self, reason: str) -> FeedbackAway:
        self.fault = f"the spool accepts no more predictions ({reason})"
        return FeedbackAway(
            f"Nothing can be stored: the database is unavailable and the spool is full ({reason}).",
            "Make the database available again; feedback.spool_mib in the settings limits the spool.",
        )
