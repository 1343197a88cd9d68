"""Finding where the journal was edited, truncated, reordered or rebuilt, from its entries alone."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from medloop.feedback.journal.chain import ALARM, Entry, Signer, hash_of_entry
from medloop.feedback.journal.head import FIRST
from medloop.feedback.records import Head

# How far from its position a moved entry is searched for, and for how many entries.
MAX_OFFSET = 1000
MAX_SEARCHES = 50

EDITED = "edited"
MOVED = "not at the position where it was written: reordered, or renumbered after others were removed"
REBUILT = "not signed with the journal's key: rebuilt"
UNLINKED = "not linked to the entry before: entries were inserted or removed"
MISSING = "missing: removed"
CUT_OFF = "missing at the end: truncated"
UNCOVERED = "not covered by the signed head: added by hand"


@dataclass(kw_only=True)
class Examination:
    """Checks the entries in order and collects what is wrong; `heads` are the trusted ones."""

    signer: Signer
    heads: tuple[Head, ...]
    last: Entry | None = None
    _found: list[tuple[str, int, int]] = field(default_factory=list)
    _alarms: list[str] = field(default_factory=list)
    _sound: bool = True
    _offset: int = 0
    _sought: int = 0

    def check(self, entry: Entry) -> bool:
        """Check an entry against its hash, its signature and the entry before; return whether it is unchanged."""
        expected = self.last.seq + 1 if self.last else 1
        if entry.seq > expected:
            self._note(MISSING, expected, entry.seq - 1)
        damage = self._find_damage(entry)
        if damage is None and entry.seq == expected and self._sound:
            damage = UNLINKED if entry.previous != (self.last.hash if self.last else FIRST) else None
        if damage is not None:
            self._note(damage, entry.seq, entry.seq)
        elif entry.kind == ALARM:
            self._alarms.append(f"entry {entry.seq} reports on the journal before it: {_reported_damage(entry)}")
        self.last, self._sound = entry, damage is None
        return self._sound

    def problems(self, stored: Head, in_file: Head | None) -> list[str]:
        """Return the problems found, including those at the end of the journal."""
        self._check_end(stored)
        problems = [f"{_named(first, last)} {what}" for what, first, last in self._found]
        if not self.signer.accepts(stored):
            problems.append(
                "the head in the database is not signed with the journal's key: truncated, rebuilt, or another key"
            )
        if in_file is not None and not self.signer.accepts(in_file):
            problems.append("the head in the file is not signed with the journal's key")
        return problems + self._alarms

    def _check_end(self, stored: Head) -> None:
        end = self.last.seq if self.last else 0
        newest = max((head.seq for head in self.heads), default=0)
        if newest > end:
            self._note(CUT_OFF, end + 1, newest)
        if self.signer.accepts(stored) and stored.seq < end:
            self._note(UNCOVERED, stored.seq + 1, end)

    def _find_damage(self, entry: Entry) -> str | None:
        if hash_of_entry(entry) != entry.hash:
            return MOVED if self._was_elsewhere(entry) else EDITED
        known = {head.hash for head in self.heads if head.seq == entry.seq}
        if known and known != {entry.hash}:
            return REBUILT
        return None if self.signer.signed(entry) else REBUILT

    def _was_elsewhere(self, entry: Entry) -> bool:
        """Return whether the entry is unchanged except for its number."""
        if self._offset and hash_of_entry(entry, seq=entry.seq + self._offset) == entry.hash:
            return True
        self._sought += 1
        for offset in range(-MAX_OFFSET, MAX_OFFSET + 1) if self._sought <= MAX_SEARCHES else ():
            if hash_of_entry(entry, seq=entry.seq + offset) == entry.hash:
                self._offset = offset
                return True
        return False

    def _note(self, what: str, first: int, last: int) -> None:
        """Add a problem, merged with the same problem of the entries before."""
        if self._found and self._found[-1][0] == what and self._found[-1][2] + 1 == first:
            first = self._found.pop()[1]
        self._found.append((what, first, last))


def _reported_damage(entry: Entry) -> str:
    return str(json.loads(entry.content)["trouble"])


def _named(first: int, last: int) -> str:
    return f"entry {first} is" if first == last else f"entries {first} to {last} are"
