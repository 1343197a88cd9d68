"""Check that the tables agree with the journal, so that nothing it covers can be changed without notice."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Table, func, select

from medloop.feedback.corrections import REVIEW
from medloop.feedback.db import tables
from medloop.feedback.inputs import EXPIRY
from medloop.feedback.journal.chain import Entry, Event, Signer
from medloop.feedback.keys import KEY
from medloop.feedback.operations import CORRECTION, PREDICTION, digest_of
from medloop.times import utc_now

UPGRADE = "upgrade"
MAX_NAMED = 5
KEY_COLUMNS = ("name", "role", "digest", "created", "expires")
# The time of a revocation that an older medloop did not record.
UNKNOWN_TIME = "long ago"


class Agreement:
    """Compares the tables with the sound entries, which it takes in order, many at a time."""

    def __init__(self, connection: Connection, signer: Signer) -> None:
        self._connection, self._signer = connection, signer
        self._states: dict[str, str] = {}
        self._keys: dict[str, dict[str, Any]] = {}
        # Needed before the predictions are checked; forged entries are reported by the examination.
        self._expired = max((content["before"] for _, content in self._signed_contents(EXPIRY)), default="")
        upgrades = self._signed_contents(UPGRADE)
        self._upgraded = upgrades[0][0] if upgrades else 0
        self._kept_after = str(upgrades[0][1]["kept_after"]) if upgrades else ""

    def check(self, entries: Sequence[Entry]) -> Iterator[str]:
        """Yield the differences of the tables from these entries."""
        yield from self._differing(entries, PREDICTION, tables.predictions, self._answer_differs)
        yield from self._differing(entries, CORRECTION, tables.corrections, self._correction_differs)
        yield from self._differing(entries, REVIEW, tables.reviews, self._review_differs)
        for entry in entries:
            content = json.loads(entry.content)
            if entry.kind == CORRECTION:
                self._states[entry.ref] = "pending"
            elif entry.kind == REVIEW:
                self._states.update(content["states"])
            elif entry.kind == KEY:
                self._keys.setdefault(content["key"], {"revoked": None}).update(_key_after(content))
            elif entry.kind == UPGRADE:
                for key, named in content["keys"].items():
                    self._keys.setdefault(key, {}).update(named)

    def check_rest(self) -> Iterator[str]:
        """Yield what is in the tables and not in the journal."""
        for table in (tables.predictions, tables.corrections, tables.reviews):
            known = select(tables.journal.c.ref).where(tables.journal.c.ref == table.c.id).exists()
            count = self._connection.execute(select(func.count()).select_from(table).where(~known)).scalar()
            some = self._connection.execute(select(table.c.id).where(~known).limit(MAX_NAMED)).scalars().all()
            if count:
                yield (
                    f"{count} rows of {table.name} are not in the journal ({', '.join(some)}): "
                    "added by hand, or while feedback.journal was off"
                )
        for row in self._connection.execute(select(tables.corrections.c.id, tables.corrections.c.state)):
            if row.id in self._states and row.state != self._states[row.id]:
                yield f"correction {row.id} is {row.state} in the table and {self._states[row.id]} in the journal"
        yield from self._keys_differing()

    def _keys_differing(self) -> Iterator[str]:
        rows = {row.id: row._mapping for row in self._connection.execute(select(tables.keys))}
        for key, row in rows.items():
            if key not in self._keys or not _agrees(row, self._keys[key]):
                reason = "added or changed by hand, or while feedback.journal was off"
                yield f"key {key} does not agree with the journal: {reason}"
        for key in self._keys.keys() - rows.keys():
            yield f"key {key} is missing from its table: removed by hand"

    def _differing(self, entries: Sequence[Entry], kind: str, table: Table, differs: Any) -> Iterator[str]:
        chosen = [entry for entry in entries if entry.kind == kind]
        if not chosen:
            return
        query = select(table).where(table.c.id.in_([entry.ref for entry in chosen]))
        rows = {row.id: row._mapping for row in self._connection.execute(query)}
        for entry in chosen:
            row = rows.get(entry.ref)
            if row is None:
                yield f"{kind} {entry.ref} of entry {entry.seq} is missing from its table"
            elif row["at"] != entry.at or differs(row, json.loads(entry.content)):
                yield f"{kind} {entry.ref} does not agree with entry {entry.seq}: edited in its table"
            elif table is tables.predictions and self._is_removed(row, entry):
                yield f"{kind} {entry.ref} of entry {entry.seq} has lost its values before they expired"

    def _answer_differs(self, row: Any, content: dict[str, Any]) -> bool:
        names = ("label", "abstained", "version", "bundle")
        if digest_of(row) != content["digest"] or any(row[name] != content[name] for name in names):
            return True
        return row["row"] is not None and self._signer.text(row["row"]) != row["input"]

    def _is_removed(self, row: Any, entry: Entry) -> bool:
        """Return whether a row's values were kept, and removed before they expired."""
        if row["kind"] != "table" or row["row"] is not None or row["at"] < self._expired:
            return False
        kept = json.loads(entry.content).get("kept")
        if kept is None:
            # An older medloop wrote the entry; the entry of the upgrade records what was kept then.
            return entry.seq < self._upgraded and row["at"] > self._kept_after
        return bool(kept)

    def _correction_differs(self, row: Any, content: dict[str, Any]) -> bool:
        fields = {"prediction": row["prediction_id"], "label": row["label"], "who": row["who"]}
        return {**fields, "reason": self._signer.text(row["reason"])} != content

    def _review_differs(self, row: Any, content: dict[str, Any]) -> bool:
        fields = {"correction": row["correction_id"], "decision": row["decision"], "who": row["who"]}
        return {**fields, "reason": self._signer.text(row["reason"]), "states": content["states"]} != content

    def _signed_contents(self, kind: str) -> list[tuple[int, dict[str, Any]]]:
        """Return number and content of the signed entries of a kind, oldest first."""
        query = select(tables.journal).where(tables.journal.c.kind == kind).order_by(tables.journal.c.seq)
        entries = [Entry(**row._mapping) for row in self._connection.execute(query)]
        return [(entry.seq, json.loads(entry.content)) for entry in entries if self._signer.signed(entry)]


def _key_after(content: dict[str, Any]) -> dict[str, Any]:
    if content["action"] == "revoked":
        return {"revoked": content.get("at", UNKNOWN_TIME)}
    # An older medloop did not record name and date.
    return {name: content[name] for name in KEY_COLUMNS if name in content}


def _agrees(row: Any, recorded: dict[str, Any]) -> bool:
    recorded = dict(recorded)
    if recorded.get("revoked") == UNKNOWN_TIME and row["revoked"] is not None:
        del recorded["revoked"]
    return all(row[name] == value for name, value in recorded.items())


def upgrade_event(connection: Connection, *, form: str) -> Event:
    """Return an entry with the names and dates of known keys, and the time since when all row values are kept."""
    journal, keys, predictions = tables.journal.c, tables.keys.c, tables.predictions.c
    contents = connection.execute(select(journal.content).where(journal.kind == KEY)).scalars()
    known = {json.loads(content)["key"] for content in contents}
    rows = connection.execute(select(keys.id, keys.name, keys.created))
    # A key that was added by hand stays unknown.
    named = {row.id: {"name": row.name, "created": row.created} for row in rows if row.id in known}
    missing = (predictions.kind == "table") & predictions.row.is_(None)
    kept_after = connection.execute(select(func.max(predictions.at)).where(missing)).scalar() or ""
    content = {"form": form, "keys": named, "kept_after": kept_after}
    return Event(kind=UPGRADE, ref=secrets.token_hex(16), at=utc_now(), content=content)
