"""API keys: stored as hashes, compared in constant time, and cached for less than a second."""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import func, insert, select, update

from medloop.errors import UnknownName, UserError
from medloop.feedback.db import tables
from medloop.feedback.db.faults import explained
from medloop.feedback.journal.chain import Event, sha256_text
from medloop.feedback.journal.transactions import Transaction, Transactions
from medloop.feedback.records import KEY_PREFIX, ROLES, FeedbackAway, Key, NotFound, Role, check_text, describe_id
from medloop.times import utc_now

KEY = "key"
# A read of the table is valid this long; one twice as old is waited for, so a revoked key ends within a second.
FRESH_S = 0.4
WAIT_S = 0.25
# While the database is unavailable, the last known keys stay valid this long.
STALE_S = 3600.0
NO_DIGEST = sha256_text("")


class Keys:
    """The table of keys, and a cached copy."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._known: Mapping[str, tuple[Key, str]] = {}
        self._seen = float("-inf")
        self._away = False
        self._asked = threading.Lock()
        self._fresh = threading.Event()

    def create(self, name: str, role: Role, *, days: int | None = None, by: str = "") -> tuple[Key, str]:
        """Create a key; return it and its secret, which is stored nowhere."""
        check_text(name, what="the name of the key", max_chars=100)
        if role not in ROLES:
            raise UnknownName("role", role, ROLES)
        if days is not None and days < 1:
            raise UserError(f"A key cannot expire after {days} days.", "Set at least 1 day.")
        with explained(), self._transactions.writing() as transaction:
            made = _insert(transaction, name=name, role=role, days=days, by=by)
        self._reload()
        return made

    def first_admin(self) -> str | None:
        """Create the first key if there is none and return its secret; return None if there is one."""
        with explained(), self._transactions.writing() as transaction:
            if transaction.connection.execute(select(func.count()).select_from(tables.keys)).scalar():
                return None
            self._check_never_made(transaction)
            _, secret = _insert(transaction, name="first admin", role="admin", days=None, by="")
        self._reload()
        return secret

    def _check_never_made(self, transaction: Transaction) -> None:
        """Refuse if there were keys before: an attacker may have emptied the table to get an admin key."""
        made = select(tables.journal.c.seq).where(tables.journal.c.kind == KEY).limit(1)
        known = self._transactions.chain.known
        is_cut = known is not None and known.seq > transaction.stored.seq
        if is_cut or transaction.connection.execute(made).first() is not None:
            raise UserError(
                "The database holds no API keys, but the journal shows that there were some.",
                "Restore the database from a backup, or create a key: `medloop keys create NAME --role admin`.",
            )

    def list(self) -> list[Key]:
        """Return all keys, oldest first."""
        return sorted((key for key, _ in self._read().values()), key=lambda key: (key.created, key.id))

    def revoke(self, key_id: str, *, by: str = "") -> Key:
        """Revoke a key and return it."""
        with explained(), self._transactions.writing() as transaction:
            columns = tables.keys.c
            row = transaction.connection.execute(select(tables.keys).where(columns.id == key_id)).one_or_none()
            if row is None:
                raise NotFound(f"No key with {describe_id(key_id)}.", "See `medloop keys list`.")
            if row.revoked is None:
                at = utc_now()
                transaction.connection.execute(update(tables.keys).where(columns.id == key_id).values(revoked=at))
                transaction.events.append(_event({"action": "revoked", "key": key_id, "at": at, "by": by}))
            row = transaction.connection.execute(select(tables.keys).where(columns.id == key_id)).one()
        self._reload()
        return _key(row)

    @property
    def is_fresh(self) -> bool:
        """Return whether a key can be found without waiting for the database."""
        return time.monotonic() - self._seen <= 2 * FRESH_S

    def find(self, secret: str) -> Key | None:
        """Return the valid key with this secret, if there is one."""
        _, _, rest = secret.partition("_")
        known = self._recent()
        key, digest = known.get(rest.partition("_")[0], (None, NO_DIGEST))
        presented = sha256_text(secret) if secret.isascii() else NO_DIGEST
        # Also compared where there is no such key, so that the timing reveals nothing.
        matches = hmac.compare_digest(presented, digest)
        return key if matches and key is not None and key.is_valid(at=utc_now()) else None

    def _recent(self) -> Mapping[str, tuple[Key, str]]:
        """Return the keys, read no longer than a moment ago while the database is available."""
        age = time.monotonic() - self._seen
        if age > FRESH_S:
            self._start_refresh()
        if age > 2 * FRESH_S:
            if not self._away:
                self._away = not self._fresh.wait(WAIT_S)
            if time.monotonic() - self._seen > STALE_S:
                raise FeedbackAway(
                    "Keys cannot be checked because the feedback database is unavailable.",
                    "Try again in a few seconds.",
                )
        return self._known

    def _start_refresh(self) -> None:
        """Read the table on another thread, one at a time."""
        if self._asked.acquire(blocking=False):
            self._fresh.clear()
            threading.Thread(target=self._refresh, name="medloop-keys", daemon=True).start()

    def _refresh(self) -> None:
        try:
            began = time.monotonic()
            self._known, self._seen, self._away = self._read(), began, False
        except FeedbackAway:
            # The last known keys stay valid and no caller waits; the next attempt follows soon.
            self._away = True
            self._fresh.set()
            time.sleep(WAIT_S)
        finally:
            self._fresh.set()
            self._asked.release()

    def _reload(self) -> None:
        self._known = self._read()
        self._seen = time.monotonic()

    def _read(self) -> dict[str, tuple[Key, str]]:
        with self._transactions.reading() as connection:
            return {row.id: (_key(row), row.digest) for row in connection.execute(select(tables.keys))}


def _insert(transaction: Transaction, *, name: str, role: Role, days: int | None, by: str) -> tuple[Key, str]:
    expires = None if days is None else utc_now(shift=timedelta(days=days))
    key = Key(id=secrets.token_hex(6), name=name, role=role, created=utc_now(), expires=expires)
    secret = f"{KEY_PREFIX}{key.id}_{secrets.token_urlsafe(32)}"
    digest = sha256_text(secret)
    transaction.connection.execute(insert(tables.keys), {**vars(key), "digest": digest})
    content = {**vars(key), "action": "created", "key": key.id, "digest": digest, "by": by}
    del content["id"], content["revoked"]
    transaction.events.append(_event(content))
    return key, secret


def _event(content: dict[str, Any]) -> Event:
    return Event(kind=KEY, ref=secrets.token_hex(16), at=utc_now(), content=content)


def _key(row: Any) -> Key:
    return Key(id=row.id, name=row.name, role=row.role, created=row.created, expires=row.expires, revoked=row.revoked)
