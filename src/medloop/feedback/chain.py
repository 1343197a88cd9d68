"""The journal's entries: each carries the hash of the one before and a signature, and the newest is signed apart."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from medloop.errors import UserError
from medloop.feedback import tables
from medloop.feedback.records import Head, now
from medloop.settings import FeedbackSettings
from medloop.storage import atomic_file, file_lock

FIRST = "0" * 64
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

    def __init__(self, secret: bytes) -> None:
        self._keys = {use: hmac.digest(secret, f"medloop {use}".encode(), "sha256") for use in USES}

    def entry(self, digest: str) -> str:
        """The signature of an entry."""
        return self._sign("entry", digest)

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
        return hmac.compare_digest(self.head(head.seq, head.hash), head.signature)

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
            file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(file, "w") as opened:
                os.fchmod(opened.fileno(), 0o600)
                opened.write(secrets.token_hex(32) + "\n")
    text = file.read_text("utf-8").strip()
    if len(text) < 64:
        raise UserError(
            f"{file.name} must hold the journal's key", found="something else", hint="restore it from a backup"
        )
    return Signer(text.encode())


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
    """The end of the journal, to which entries are added."""

    def __init__(self, signer: Signer, file: Path | None) -> None:
        self.signer, self.file = signer, file
        self._known = read_head(file)

    def append(self, connection: Connection, stored: Head, events: Sequence[Event]) -> Head | None:
        """Add entries within a transaction that has locked the head; `seen` must be told once it is committed."""
        if not events:
            return None
        end = _end(connection)
        if trouble := self._trouble(stored, end):
            LOG.error("the journal is not as it was left: %s", trouble)
            events = [Event(kind=ALARM, ref=secrets.token_hex(16), at=now(), content={"trouble": trouble}), *events]
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

    def seen(self, head: Head | None) -> None:
        """Remember the newest entry that is surely stored, here and in the file beside the database."""
        if head is None:
            return
        self._known = head
        if self.file is not None:
            write_head(self.file, head)

    def _trouble(self, head: Head, end: Head) -> str | None:
        """What was done to the end of the journal since it was last seen, so that it is not signed over."""
        if not self.signer.accepts(head):
            return "its head was not signed with this key"
        if (head.seq, head.hash) != (end.seq, end.hash):
            return f"its head named entry {head.seq}, and it ended at {end.seq}"
        if self._known is None or head.seq > self._known.seq:
            return None
        if head.seq < self._known.seq:
            return f"it had ended at entry {self._known.seq}, and then at {head.seq}"
        return None if head.hash == self._known.hash else f"its entry {head.seq} was another one before"


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


def read_head(file: Path | None) -> Head | None:
    """The head as the file beside the database has it."""
    if file is None or not file.is_file():
        return None
    try:
        seq, digest, signature = file.read_text("utf-8").split()
        return Head(seq=int(seq), hash=digest, signature=signature)
    except (UnicodeDecodeError, ValueError):
        return None


def write_head(file: Path, head: Head) -> None:
    """Keep the head apart from the database, quickly: a power cut may leave an older one, which still shows a cut."""
    text = f"{head.seq:>20} {head.hash} {head.signature}\n"
    handle = os.open(file, os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        # One write in place, which a killed process has either made or not.
        os.pwrite(handle, text.encode(), 0)
    finally:
        os.close(handle)
