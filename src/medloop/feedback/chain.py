"""The journal's entries: each carries the hash of the one before and a signature, and the newest is signed apart."""

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
from medloop.feedback import tables
from medloop.feedback.head import EMPTY, FIRST, HeadCopy, read_head, write_head
from medloop.feedback.records import Head, now
from medloop.settings import FeedbackSettings
from medloop.storage import file_lock, write_text

ALARM = "alarm"
USES = ("entry", "head", "text", "patient")
LOG = logging.getLogger(__name__)

_HEAD, _ENTRY = tables.journal_head.c, tables.journal.c
# Made once: making a statement takes longer than SQLite needs to run it. Locked, so that writers take turns.
_SELECT_HEAD = select(_HEAD.seq, _HEAD.hash, _HEAD.signature).with_for_update()
_SELECT_END = select(_ENTRY.seq, _ENTRY.hash).order_by(_ENTRY.seq.desc()).limit(1)
_INSERT_ENTRIES = insert(tables.journal)
_NEW = ("seq", "hash", "signature")
_UPDATE_HEAD = update(tables.journal_head).values({name: bindparam(f"new_{name}") for name in _NEW})

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


def canonical(content: Any) -> str:
    """The one way to write this content as JSON."""
    return _encode(content)


def sha256_text(text: str) -> str:
    """The SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that is to be written into the journal; `ref` is of its own and keeps it from being written twice."""

    kind: str
    ref: str
    at: str
    content: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the journal."""

    seq: int
    at: str
    kind: str
    ref: str
    content: str
    previous: str
    hash: str
    mac: str


class Signer:
    """Signs with one key for each use, so that no signature can stand for another."""

    def __init__(self, secret: bytes, file: Path | None = None) -> None:
        # Where it is kept, unless the settings have it.
        self.file = file
        # Why the next start would not find it there.
        self.fault: str | None = None
        self._secret = secret
        self._keys = {use: hmac.digest(secret, f"medloop {use}".encode(), "sha256") for use in USES}

    def look_after(self) -> None:
        """Compare the key's file with the key, and write it again where it is missing."""
        if self.file is None:
            return
        try:
            if not self.file.exists():
                LOG.error("%s was removed; it is written again", self.file.name)
                write_text(self.file, self._secret.decode() + "\n", secret=True)
            is_other = self.file.read_bytes().strip() != self._secret
            self.fault = f"{self.file.name} holds another key than the journal's" if is_other else None
        except OSError as error:
            self.fault = f"{self.file.name} cannot be read or written ({error.strerror})"

    def entry(self, digest: str) -> str:
        """The signature of an entry."""
        return self._sign("entry", digest)

    def signed(self, entry: Entry) -> bool:
        """Whether this key signed the entry as it stands."""
        values = {name: getattr(entry, name) for name in ("seq", "at", "kind", "ref", "content", "previous")}
        return hash_of(**values) == entry.hash and hmac.compare_digest(
            self.entry(entry.hash).encode(), entry.mac.encode()
        )

    def head(self, seq: int, digest: str) -> str:
        """The signature of the newest entry."""
        return self._sign("head", f"{seq} {digest}")

    def text(self, text: str) -> str:
        """A hash that nobody can guess a short text from."""
        return self._sign("text", text)

    @property
    def patient_key(self) -> bytes:
        """A key that hides patients, and nothing of the journal's own can be signed with."""
        return self._keys["patient"]

    def accepts(self, head: Head) -> bool:
        """Whether this key signed the head; that of an empty journal has no signature."""
        if head.seq == 0:
            return head.hash == FIRST
        return hmac.compare_digest(self.head(head.seq, head.hash).encode(), head.signature.encode())

    def _sign(self, use: str, text: str) -> str:
        return hmac.digest(self._keys[use], text.encode(), "sha256").hex()


def load_signer(settings: FeedbackSettings, file: Path, *, begun: bool, stateless: bool) -> Signer:
    """The journal's key: from the settings, or from a file, which is made for a journal that has not begun."""
    if settings.journal_key is not None:
        return Signer(settings.journal_key.get_secret_value().encode())
    if stateless or (begun and not file.is_file()):
        raise UserError(
            "the journal's key must be known",
            found="a platform that keeps no disk" if stateless else f"a journal that has begun, and no {file.name}",
            hint="set MEDLOOP_FEEDBACK__JOURNAL_KEY to a long random text"
            if stateless
            else "restore the file, or set MEDLOOP_FEEDBACK__JOURNAL_KEY to what it held",
        )
    with file_lock(file.with_name(f".{file.name}.lock")):
        if not file.is_file():
            write_text(file, secrets.token_hex(32) + "\n", secret=True)
    text = file.read_text("utf-8").strip()
    if len(text) < 64:
        raise UserError(
            f"{file.name} must hold the journal's key", found="something else", hint="restore it from a backup"
        )
    return Signer(text.encode(), file)


def seal(event: Event, *, seq: int, previous: str, signer: Signer) -> Entry:
    """The entry of an event at its place in the chain."""
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
    """What stands for an entry and, through `previous`, for all before it."""
    return sha256_text(canonical([seq, at, kind, ref, content, previous]))


class Chain:
    """The end of the journal, to which entries are added; `alone` where no other machine writes to the database."""

    def __init__(self, signer: Signer, file: Path | None, *, alone: bool, copy: HeadCopy | None = None) -> None:
        self.signer, self.file, self.copy = signer, file, copy
        self.known = read_head(file)
        # Whether entries were added here, and why the newest could not be written into the file.
        self.has_grown = False
        self.fault: str | None = None
        self._alone = alone

    def append(self, connection: Connection, stored: Head, events: Sequence[Event]) -> Head | None:
        """Add entries within a transaction that has locked the head; `seen` must be told once it is committed."""
        if not events:
            return None
        end = _end(connection)
        if trouble := self._trouble(stored, end):
            LOG.error("the journal is not as it was left: %s", trouble)
            events = [alarm(trouble), *events]
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
        """Note beside an empty journal that it is empty, so that a file that is missing later was removed."""
        if stored.seq == 0 and self.file is not None and not self.file.exists():
            write_head(self.file, EMPTY)

    def seen(self, head: Head | None) -> None:
        """Remember the newest entry that is surely stored, here and in the file beside the database."""
        if head is None:
            return
        self.known, self.has_grown = head, True
        self.note()

    def note(self) -> None:
        """Write the newest entry into the file; where that fails the journal goes on, and an older one stays there."""
        if self.file is None or self.known is None:
            return
        try:
            write_head(self.file, self.known)
            self.fault = None
        except OSError as error:
            self.fault = f"the journal's head cannot be written ({error.strerror})"

    def difference_from(self, connection: Connection, head: Head) -> str | None:
        """How the journal differs from a head that was kept elsewhere, if it does."""
        if not self.signer.accepts(head):
            return "the copy of its head was not signed with this key"
        found = connection.execute(select(_ENTRY.hash).where(_ENTRY.seq == head.seq)).scalar()
        if head.seq == 0 or found == head.hash:
            return None
        return f"a copy of its head names entry {head.seq}, which is {'another one' if found else 'missing'}"

    def _trouble(self, head: Head, end: Head) -> str | None:
        """What was done to the end of the journal since it was last seen, so that it is not signed over."""
        if not self.signer.accepts(head):
            return "its head was not signed with this key"
        if (head.seq, head.hash) != (end.seq, end.hash):
            return f"its head named entry {head.seq}, and it ended at {end.seq}"
        return self._trouble_with_known(head)

    def _trouble_with_known(self, head: Head) -> str | None:
        # Another process may have written the file since this one began.
        known = self.known = self.known or read_head(self.file)
        if known is None:
            is_missing = self._alone and self.file is not None and head.seq > 0
            return "the file with its head was missing or unreadable" if is_missing else None
        if not self.signer.accepts(known):
            return "the head in its file was not signed with this key"
        if head.seq < known.seq:
            return f"it had ended at entry {known.seq}, and then at {head.seq}"
        return (
            f"its entry {head.seq} was another one before"
            if head.seq == known.seq and head.hash != known.hash
            else None
        )


def alarm(trouble: str) -> Event:
    """The entry that tells of a trouble with what stands before it."""
    return Event(kind=ALARM, ref=secrets.token_hex(16), at=now(), content={"trouble": trouble})


def lock_head(connection: Connection) -> Head:
    """The head as the database has it, which nobody else may change until the transaction ends."""
    return _head_in(connection.execute(_SELECT_HEAD).one_or_none())


def stored_head(connection: Connection) -> Head:
    """The head as the database has it."""
    return _head_in(connection.execute(select(tables.journal_head)).one_or_none())


def _head_in(row: Any) -> Head:
    return Head(seq=row.seq, hash=row.hash, signature=row.signature) if row else Head(seq=0, hash="", signature="")


def _end(connection: Connection) -> Head:
    """The last entry there is, whatever the head says."""
    row = connection.execute(_SELECT_END).one_or_none()
    return Head(seq=row.seq, hash=row.hash, signature="") if row else Head(seq=0, hash=FIRST, signature="")
