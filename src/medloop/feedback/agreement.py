"""Whether the tables are as the journal says, so that what is bound by it cannot be changed beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Table, func, select

from medloop.feedback import tables
from medloop.feedback.chain import Entry, Signer
from medloop.feedback.corrections import REVIEW
from medloop.feedback.coverage import UPGRADE
from medloop.feedback.expiry import EXPIRY
from medloop.feedback.keys import KEY
from medloop.feedback.operations import CORRECTION, PREDICTION, digest_of

NAMED = 5
KEY_COLUMNS = ("name", "role", "digest", "created", "expires")
# When a key was revoked, where an older medloop has not written down the moment.
LONG_AGO = "long ago"


class Agreement:
    """Takes the sound entries in order, many at a time, and holds the tables against them."""

    def __init__(self, connection: Connection, signer: Signer) -> None:
        self._connection, self._signer = connection, signer
        self._states: dict[str, str] = {}
        self._keys: dict[str, dict[str, Any]] = {}
        # Known before the answers are looked at; entries that somebody wrote are named by the examination.
        self._expired = max((content["before"] for _, content in self._told(EXPIRY)), default="")
        upgrades = self._told(UPGRADE)
        self._upgraded = upgrades[0][0] if upgrades else 0
        self._kept_after = str(upgrades[0][1]["kept_after"]) if upgrades else ""

    def look_at(self, entries: Sequence[Entry]) -> Iterator[str]:
        """What the tables have otherwise than these entries."""
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

    def look_at_rest(self) -> Iterator[str]:
        """What the tables have and the journal does not know."""
        for table in (tables.predictions, tables.corrections, tables.reviews):
            known = select(tables.journal.c.ref).where(tables.journal.c.ref == table.c.id).exists()
            count = self._connection.execute(select(func.count()).select_from(table).where(~known)).scalar()
            some = self._connection.execute(select(table.c.id).where(~known).limit(NAMED)).scalars().all()
            if count:
                yield (
                    f"{count} rows of {table.name} are not in the journal ({', '.join(some)}): "
                    "put there by hand, or while feedback.journal was off"
                )
        for row in self._connection.execute(select(tables.corrections.c.id, tables.corrections.c.state)):
            if row.id in self._states and row.state != self._states[row.id]:
                yield f"correction {row.id} is {row.state}, and by the journal {self._states[row.id]}"
        yield from self._keys_differing()

    def _keys_differing(self) -> Iterator[str]:
        rows = {row.id: row._mapping for row in self._connection.execute(select(tables.keys))}
        for key, row in rows.items():
            if key not in self._keys or not _is_as_told(row, self._keys[key]):
                yield f"key {key} is not as the journal says: put there or changed by hand, or while it was off"
        for key in self._keys.keys() - rows.keys():
            yield f"key {key} is missing in its table: removed by hand"

    def _differing(self, entries: Sequence[Entry], kind: str, table: Table, differs: Any) -> Iterator[str]:
        chosen = [entry for entry in entries if entry.kind == kind]
        if not chosen:
            return
        query = select(table).where(table.c.id.in_([entry.ref for entry in chosen]))
        rows = {row.id: row._mapping for row in self._connection.execute(query)}
        for entry in chosen:
            row = rows.get(entry.ref)
            if row is None:
                yield f"{kind} {entry.ref} of entry {entry.seq} is missing in its table"
            elif row["at"] != entry.at or differs(row, json.loads(entry.content)):
                yield f"{kind} {entry.ref} is not as entry {entry.seq} has it: edited in its table"
            elif table is tables.predictions and self._is_taken_out(row, entry):
                yield f"{kind} {entry.ref} of entry {entry.seq} has lost its values, which had not expired"

    def _answer_differs(self, row: Any, content: dict[str, Any]) -> bool:
        names = ("label", "abstained", "version", "bundle")
        if digest_of(row) != content["digest"] or any(row[name] != content[name] for name in names):
            return True
        return row["row"] is not None and self._signer.text(row["row"]) != row["input"]

    def _is_taken_out(self, row: Any, entry: Entry) -> bool:
        """Whether a row's values were kept once, and are gone before their time."""
        if row["kind"] != "table" or row["row"] is not None or row["at"] < self._expired:
            return False
        kept = json.loads(entry.content).get("kept")
        if kept is None:
            # An older medloop wrote the entry; what was kept then is known from the upgrade.
            return entry.seq < self._upgraded and row["at"] > self._kept_after
        return bool(kept)

    def _correction_differs(self, row: Any, content: dict[str, Any]) -> bool:
        said = {"prediction": row["prediction_id"], "label": row["label"], "who": row["who"]}
        return {**said, "reason": self._signer.text(row["reason"])} != content

    def _review_differs(self, row: Any, content: dict[str, Any]) -> bool:
        said = {"correction": row["correction_id"], "decision": row["decision"], "who": row["who"]}
        return {**said, "reason": self._signer.text(row["reason"]), "states": content["states"]} != content

    def _told(self, kind: str) -> list[tuple[int, dict[str, Any]]]:
        """What the signed entries of a kind say, oldest first."""
        query = select(tables.journal).where(tables.journal.c.kind == kind).order_by(tables.journal.c.seq)
        entries = [Entry(**row._mapping) for row in self._connection.execute(query)]
        return [(entry.seq, json.loads(entry.content)) for entry in entries if self._signer.signed(entry)]


def _key_after(content: dict[str, Any]) -> dict[str, Any]:
    if content["action"] == "revoked":
        return {"revoked": content.get("at", LONG_AGO)}
    # An older medloop did not write down name and date.
    return {name: content[name] for name in KEY_COLUMNS if name in content}


def _is_as_told(row: Any, told: dict[str, Any]) -> bool:
    told = dict(told)
    if told.get("revoked") == LONG_AGO and row["revoked"] is not None:
        del told["revoked"]
    return all(row[name] == value for name, value in told.items())
