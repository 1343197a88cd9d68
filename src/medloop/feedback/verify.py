"""Saying where the journal was edited, cut, reordered or rebuilt, by its entries alone."""

from __future__ import annotations

import hmac
import json
from dataclasses import dataclass, field

from medloop.feedback.chain import ALARM, Entry, Signer, hash_of
from medloop.feedback.head import FIRST
from medloop.feedback.records import Head

# How far from its place an entry is looked for, and for how many that is done.
WINDOW = 1000
SOUGHT = 50

EDITED = "edited"
MOVED = "not at the place where it was written: reordered, or renumbered after others were taken out"
REBUILT = "not signed with the journal's key: rebuilt"
UNLINKED = "not linked to what stands before: something was put in between or taken out"
MISSING = "missing: cut out"
CUT_OFF = "missing at the end: cut off"
UNCOVERED = "not covered by the signed head: put there by hand"


@dataclass(kw_only=True)
class Examination:
    """Goes through the entries in order and notes what is wrong with each; `heads` are those to be trusted."""

    signer: Signer
    heads: tuple[Head, ...]
    last: Entry | None = None
    _found: list[tuple[str, int, int]] = field(default_factory=list)
    _alarms: list[str] = field(default_factory=list)
    _sound: bool = True
    _offset: int = 0
    _sought: int = 0

    def look_at(self, entry: Entry) -> bool:
        """Hold one entry against itself, the key, and the one before; whether it is as it was written."""
        expected = self.last.seq + 1 if self.last else 1
        if entry.seq > expected:
            self._note(MISSING, expected, entry.seq - 1)
        trouble = self._trouble(entry)
        if trouble is None and entry.seq == expected and self._sound:
            trouble = UNLINKED if entry.previous != (self.last.hash if self.last else FIRST) else None
        if trouble is not None:
            self._note(trouble, entry.seq, entry.seq)
        elif entry.kind == ALARM:
            self._alarms.append(f"entry {entry.seq} tells of the journal before it: {_told(entry)}")
        self.last, self._sound = entry, trouble is None
        return self._sound

    def problems(self, stored: Head, apart: Head | None) -> list[str]:
        """What was found, in words, the end of the journal included."""
        self._look_at_end(stored)
        told = [f"{_named(first, last)} {what}" for what, first, last in self._found]
        if not self.signer.accepts(stored):
            told.append("the head in the database is not signed with the journal's key: cut, rebuilt, or another key")
        if apart is not None and not self.signer.accepts(apart):
            told.append("the head in the file is not signed with the journal's key")
        return told + self._alarms

    def _look_at_end(self, stored: Head) -> None:
        end = self.last.seq if self.last else 0
        newest = max((head.seq for head in self.heads), default=0)
        if newest > end:
            self._note(CUT_OFF, end + 1, newest)
        if self.signer.accepts(stored) and stored.seq < end:
            self._note(UNCOVERED, stored.seq + 1, end)

    def _trouble(self, entry: Entry) -> str | None:
        if _hash_at(entry, entry.seq) != entry.hash:
            return MOVED if self._stood_elsewhere(entry) else EDITED
        known = {head.hash for head in self.heads if head.seq == entry.seq}
        if known and known != {entry.hash}:
            return REBUILT
        return None if hmac.compare_digest(self.signer.entry(entry.hash).encode(), entry.mac.encode()) else REBUILT

    def _stood_elsewhere(self, entry: Entry) -> bool:
        """Whether the entry is as it was, but for its number."""
        if self._offset and _hash_at(entry, entry.seq + self._offset) == entry.hash:
            return True
        self._sought += 1
        for offset in range(-WINDOW, WINDOW + 1) if self._sought <= SOUGHT else ():
            if _hash_at(entry, entry.seq + offset) == entry.hash:
                self._offset = offset
                return True
        return False

    def _note(self, what: str, first: int, last: int) -> None:
        """Note a trouble; the same with its neighbours is told once."""
        if self._found and self._found[-1][0] == what and self._found[-1][2] + 1 == first:
            first = self._found.pop()[1]
        self._found.append((what, first, last))


def _hash_at(entry: Entry, seq: int) -> str:
    return hash_of(seq=seq, at=entry.at, kind=entry.kind, ref=entry.ref, content=entry.content, previous=entry.previous)


def _told(entry: Entry) -> str:
    return str(json.loads(entry.content)["trouble"])


def _named(first: int, last: int) -> str:
    return f"entry {first} is" if first == last else f"entries {first} to {last} are"
