"""The chain of journal entries: each has the previous one's hash and a signature; the newest is signed separately."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from medloop.errors import UserError
from medloop.feedback.db import tables
from medloop.feedback.journal.head import EMPTY, FIRST, HeadCopy, read_head, write_head
from medloop.feedback.records import Head
from medloop.settings import FeedbackSettings
from medloop.storage import file_lock, write_text
from medloop.times import utc_now

ALARM = "alarm"
USES = ("entry", "head", "text", "patient")
LOG = logging.getLogger(__name__)

_HEAD, _ENTRY = tables.journal_head.c, tables.journal.c
# Built once: building a statement takes longer than running it in SQLite. The lock makes writers take turns.
_SELECT_HEAD = select(_HEAD.seq, _HEAD.hash, _HEAD.signature).with_for_update()
_SELECT_END = select(_ENTRY.seq, _ENTRY.hash).order_by(_ENTRY.seq.desc()).limit(1)
_INSERT_ENTRIES = insert(tables.journal)
_NEW = ("seq", "hash", "signature")
_UPDATE_HEAD = update(tables.journal_head).values({name: bindparam(f"new_{name}") for name in _NEW})

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


def canonical(content: Any) -> str:
    """Return the canonical JSON of this content."""
    return _encode(content)


def sha256_text(text: str) -> str:
    """Return the SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Event:
    """An event to write into the journal; `ref` is unique, so that it is not written twice."""

    kind: str
    ref: str
    at: str
    content: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An entry of the journal."""

    seq: int
    at: str
    kind: str
    ref: str
    content: str
    previous: str
    hash: str
    mac: str


class Signer:
    """Signs with a separate key for each use, so that no signature can be used for another purpose."""

    def __init__(self, secret: bytes, file: Path | None = None) -> None:
        # Where the key is stored, unless the settings hold it.
        self.file = file
        # Why the next start would not find it there, if so.
        self.fault: str | None = None
        self._secret = secret
        self._keys = {use: hmac.digest(secret, f"medloop {use}".encode(), "sha256") for use in USES}

    def check_file(self) -> None:
        """Compare the key's file with the key, and write it again if it is missing."""
        if self.file is None:
            return
        try:
            if not self.file.exists():
                LOG.error("%s was removed and has been written again", self.file.name)
                write_text(self.file, self._secret.decode() + "\n", secret=True)
            is_other = self.file.read_bytes().strip() != self._secret
            self.fault = f"{self.file.name} does not hold the journal's key" if is_other else None
        except OSError as error:
            self.fault = f"{self.file.name} cannot be read or written ({error.strerror})"

    def entry(self, digest: str) -> str:
        """Return the signature of an entry."""
        return self._sign("entry", digest)

    def signed(self, entry: Entry) -> bool:
        """Return whether this key signed the entry, which is unchanged since."""
        if hash_of_entry(entry) != entry.hash:
            return False
        return hmac.compare_digest(self.entry(entry.hash).encode(), entry.mac.encode())

    def head(self, seq: int, digest: str) -> str:
        """Return the signature of the newest entry."""
        return self._sign("head", f"{seq} {digest}")

    def text(self, text: str) -> str:
        """Return a keyed hash, from which a short text cannot be guessed."""
        return self._sign("text", text)

    @property
    def patient_key(self) -> bytes:
        """Return the key for hashing patients, with which nothing in the journal can be signed."""
        return self._keys["patient"]

    def accepts(self, head: Head) -> bool:
        """Return whether this key signed the head; that of an empty journal has no signature."""
        if head.seq == 0:
            return head.hash == FIRST
        return hmac.compare_digest(self.head(head.seq, head.hash).encode(), head.signature.encode())

    def _sign(self, use: str, text: str) -> str:
        return hmac.digest(self._keys[use], text.encode(), "sha256").hex()


def load_signer(settings: FeedbackSettings, file: Path, *, begun: bool, stateless: bool) -> Signer:
    """Return the journal's key from the settings, or from a file, which is created for a new journal."""
    if settings.journal_key is not None:
        return Signer(settings.journal_key.get_secret_value().encode())
    if stateless or (begun and not file.is_file()):
        if stateless:
            raise UserError(
                "The journal's key is not set, and this platform does not keep its disk.",
                "Set MEDLOOP_FEEDBACK__JOURNAL_KEY to a long random string.",
            )
        raise UserError(
            f"The journal has entries, but its key file {file.name} is missing.",
            "Restore the file, or set MEDLOOP_FEEDBACK__JOURNAL_KEY to its content.",
        )
    with file_lock(file.with_name(f".{file.name}.lock")):
        if not file.is_file():
            write_text(file, secrets.token_hex(32) + "\n", secret=True)
    text = file.read_text("utf-8").strip()
    if len(text) < 64:
        raise UserError(f"{file.name} does not hold a key.", "Restore it from a backup.")
    return Signer(text.encode(), file)


def seal(event: Event, *, seq: int, previous: str, signer: Signer) -> Entry:
    """Return the signed entry of an event at its position in the chain."""
    content = canonical(event.content)
    digest = hash_of(seq=seq, at=event.at, kind=event.kind, ref=event.ref, content=content, previous=previous)
    return Entry(
        seq=seq,
        at=event.at,
        kind=event.kind,
        ref=event.ref,
        content=content,
        previous=previous,
        hash=digest,
        mac=signer.entry(digest),
    )


def hash_of(*, seq: int, at: str, kind: str, ref: str, content: str, previous: str) -> str:
    """Return the hash of an entry and, through `previous`, of all before it."""
    return sha256_text(canonical([seq, at, kind, ref, content, previous]))


def hash_of_entry(entry: Entry, *, seq: int | None = None) -> str:
    """Return the hash of an entry as it stands, or as it would be under another number."""
    return hash_of(
        seq=entry.seq if seq is None else seq,
        at=entry.at,
        kind=entry.kind,
        ref=entry.ref,
        content=entry.content,
        previous=entry.previous,
    )


class Chain:
    """The end of the journal, where entries are added; `alone` if no other machine writes to the database."""

    def __init__(self, signer: Signer, file: Path | None, *, alone: bool, copy: HeadCopy | None = None) -> None:
        self.signer, self.file, self.copy = signer, file, copy
        self.known = read_head(file)
        # Whether entries were added here, and why the head could not be written to its file, if so.
        self.has_grown = False
        self.fault: str | None = None
        self._alone = alone

    def append(self, connection: Connection, stored: Head, events: Sequence[Event]) -> Head | None:
        """Add entries within a transaction that has locked the head; call `remember` once it is committed."""
        if not events:
            return None
        end = _end(connection)
        if damage := self._find_damage(stored, end):
            LOG.error("the journal was changed from outside: %s", damage)
            events = [alarm(damage), *events]
        seq, previous, rows = max(stored.seq, end.seq), end.hash, []
        for event in events:
            seq += 1
            entry = seal(event, seq=seq, previous=previous, signer=self.signer)
            previous = entry.hash
            rows.append(vars(entry))
        connection.execute(_INSERT_ENTRIES, rows)
        head = Head(seq=seq, hash=previous, signature=self.signer.head(seq, previous))
        if connection.execute(_UPDATE_HEAD, {f"new_{name}": getattr(head, name) for name in _NEW}).rowcount == 0:
            connection.execute(insert(tables.journal_head).values(id=1, **vars(head)))
        return head

    def begin(self, stored: Head) -> None:
        """Write the head of an empty journal to its file, so that a missing file means that it was removed."""
        if stored.seq == 0 and self.file is not None and not self.file.exists():
            write_head(self.file, EMPTY)

    def remember(self, head: Head | None) -> None:
        """Remember the newest committed entry, in memory and in the head's file."""
        if head is None:
            return
        self.known, self.has_grown = head, True
        self.write_file()

    def write_file(self) -> None:
        """Write the newest entry to the head's file; if that fails, the journal continues and the file stays older."""
        if self.file is None or self.known is None:
            return
        try:
            write_head(self.file, self.known)
            self.fault = None
        except OSError as error:
            self.fault = f"the journal's head cannot be written ({error.strerror})"

    def difference_from(self, connection: Connection, head: Head) -> str | None:
        """Return how the journal differs from a head that was kept elsewhere, or None."""
        if not self.signer.accepts(head):
            return "the copy of its head was not signed with this key"
        found = connection.execute(select(_ENTRY.hash).where(_ENTRY.seq == head.seq)).scalar()
        if head.seq == 0 or found == head.hash:
            return None
        return f"a copy of its head names entry {head.seq}, which is {'different' if found else 'missing'}"

    def _find_damage(self, head: Head, end: Head) -> str | None:
        """Return what happened to the end of the journal since it was last seen, so that it is not signed over."""
        if not self.signer.accepts(head):
            return "its head was not signed with this key"
        if (head.seq, head.hash) != (end.seq, end.hash):
            return f"its head named entry {head.seq}, but it ended at {end.seq}"
        return self._damage_since_known(head)

    def _damage_since_known(self, head: Head) -> str | None:
        # Another process may have written the file since this one started.
        known = self.known = self.known or read_head(self.file)
        if known is None:
            is_missing = self._alone and self.file is not None and head.seq > 0
            return "the file with its head was missing or unreadable" if is_missing else None
        if not self.signer.accepts(known):
            return "the head in its file was not signed with this key"
        if head.seq < known.seq:
            return f"it ended at entry {known.seq} before, and now at {head.seq}"
        return (
            f"its entry {head.seq} was different before" if head.seq == known.seq and head.hash != known.hash else None
        )


def alarm(damage: str) -> Event:
    """Return the entry that reports damage to the journal before it."""
    return Event(kind=ALARM, ref=secrets.token_hex(16), at=utc_now(), content={"trouble": damage})


def lock_head(connection: Connection) -> Head:
    """Return the head in the database, locked until the transaction ends."""
    return _head_in(connection.execute(_SELECT_HEAD).one_or_none())


def stored_head(connection: Connection) -> Head:
    """Return the head in the database."""
    return _head_in(connection.execute(select(tables.journal_head)).one_or_none())


def _head_in(row: Any) -> Head:
    return Head(seq=row.seq, hash=row.hash, signature=row.signature) if row else Head(seq=0, hash="", signature="")


def _end(connection: Connection) -> Head:
    """Return the last entry, regardless of the head."""
    row = connection.execute(_SELECT_END).one_or_none()
    return Head(seq=row.seq, hash=row.hash, signature="") if row else Head(seq=0, hash=FIRST, signature="")
