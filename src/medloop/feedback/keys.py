"""API keys: stored hashed, compared in constant time, and known for a second without asking the database."""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import func, insert, select, update

from medloop.errors import UnknownName, UserError
from medloop.feedback import tables
from medloop.feedback.chain import Event, sha256_text
from medloop.feedback.faults import explained
from medloop.feedback.records import KEY_PREFIX, ROLES, FeedbackAway, Key, NotFound, Role, now
from medloop.feedback.texts import check_text
from medloop.feedback.transactions import Transaction, Transactions

KEY = "key"
# A look at the table holds for so long; one that is twice as old is waited for, so a revoked key ends within a second.
FRESH_S = 0.4
WAIT_S = 0.25
# While the database is away the keys known last still open the service, but not for ever.
STALE_S = 3600.0
NOBODY = sha256_text("")


class Keys:
    """The table of keys, and what was last seen of it."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._known: Mapping[str, tuple[Key, str]] = {}
        self._seen = float("-inf")
        self._away = False
        self._asked = threading.Lock()
        self._fresh = threading.Event()

    def create(self, name: str, role: Role, *, days: int | None = None, by: str = "") -> tuple[Key, str]:
        """A new key, and its secret, which is stored nowhere."""
        check_text(name, what="the name of a key", longest=100)
        if role not in ROLES:
            raise UnknownName("a role", role, ROLES)
        if days is not None and days < 1:
            raise UserError("a key must be good for a day at least", found=f"{days} days", hint="give a larger number")
        with explained(), self._transactions.writing() as transaction:
            made = _insert(transaction, name=name, role=role, days=days, by=by)
        self._forget()
        return made

    def first_admin(self) -> str | None:
        """The secret of the first key, which is made where there is none; None where there is one."""
        with explained(), self._transactions.writing() as transaction:
            if transaction.connection.execute(select(func.count()).select_from(tables.keys)).scalar():
                return None
            self._check_never_made(transaction)
            _, secret = _insert(transaction, name="first admin", role="admin", days=None, by="")
        self._forget()
        return secret

    def _check_never_made(self, transaction: Transaction) -> None:
        """Refuse to open a journal anew to whoever could empty the table of keys."""
        made = select(tables.journal.c.seq).where(tables.journal.c.kind == KEY).limit(1)
        known = self._transactions.chain.known
        is_cut = known is not None and known.seq > transaction.stored.seq
        if is_cut or transaction.connection.execute(made).first() is not None:
            raise UserError(
                "The database holds no API key any more, but the journal shows that there were some",
                found="an empty table of keys",
                hint="restore the database from a backup, or make a key: `medloop keys create NAME --role admin`",
            )

    def list(self) -> list[Key]:
        """All keys, oldest first."""
        return sorted((key for key, _ in self._read().values()), key=lambda key: (key.created, key.id))

    def revoke(self, key_id: str, *, by: str = "") -> Key:
        """End a key for good."""
        with explained(), self._transactions.writing() as transaction:
            columns = tables.keys.c
            row = transaction.connection.execute(select(tables.keys).where(columns.id == key_id)).one_or_none()
            if row is None:
                raise NotFound("a key to revoke must exist", found="none of this id", hint="see `medloop keys list`")
            if row.revoked is None:
                at = now()
                transaction.connection.execute(update(tables.keys).where(columns.id == key_id).values(revoked=at))
                transaction.events.append(_event({"action": "revoked", "key": key_id, "at": at, "by": by}))
            row = transaction.connection.execute(select(tables.keys).where(columns.id == key_id)).one()
        self._forget()
        return _key(row)

    @property
    def is_fresh(self) -> bool:
        """Whether a key can be found without waiting for the database."""
        return time.monotonic() - self._seen <= 2 * FRESH_S

    def find(self, secret: str) -> Key | None:
        """The key with this secret, if it is one that opens anything."""
        _, _, rest = secret.partition("_")
        known = self._recent()
        key, digest = known.get(rest.partition("_")[0], (None, NOBODY))
        given = sha256_text(secret) if secret.isascii() else NOBODY
        # Compared also where there is no such key, so that the time does not tell.
        fits = hmac.compare_digest(given, digest)
        return key if fits and key is not None and key.is_valid(at=now()) else None

    def _recent(self) -> Mapping[str, tuple[Key, str]]:
        """The keys as they were a moment ago."""
        age = time.monotonic() - self._seen
        if age > FRESH_S:
            self._look()
        if age > 2 * FRESH_S:
            if not self._away:
                self._away = not self._fresh.wait(WAIT_S)
            if time.monotonic() - self._seen > STALE_S:
                raise FeedbackAway(
                    "keys must be known before anybody is let in",
                    found="the feedback database does not answer",
                    hint="try again in a few seconds",
                )
        return self._known

    def _look(self) -> None:
        """Ask the database, beside whoever needs to know; once at a time."""
        if self._asked.acquire(blocking=False):
            self._fresh.clear()
            threading.Thread(target=self._refresh, name="medloop-keys", daemon=True).start()

    def _refresh(self) -> None:
        try:
            began = time.monotonic()
            self._known, self._seen, self._away = self._read(), began, False
        except FeedbackAway:
            # The keys known last go on, and nobody waits any more; it is tried again soon.
            self._away = True
            self._fresh.set()
            time.sleep(WAIT_S)
        finally:
            self._fresh.set()
            self._asked.release()

    def _forget(self) -> None:
        self._known = self._read()
        self._seen = time.monotonic()

    def _read(self) -> dict[str, tuple[Key, str]]:
        with self._transactions.reading() as connection:
            return {row.id: (_key(row), row.digest) for row in connection.execute(select(tables.keys))}


def _insert(transaction: Transaction, *, name: str, role: Role, days: int | None, by: str) -> tuple[Key, str]:
    expires = None if days is None else (datetime.now(UTC) + timedelta(days=days)).isoformat(timespec="microseconds")
    key = Key(id=secrets.token_hex(6), name=name, role=role, created=now(), expires=expires)
    secret = f"{KEY_PREFIX}{key.id}_{secrets.token_urlsafe(32)}"
    digest = sha256_text(secret)
    transaction.connection.execute(insert(tables.keys), {**vars(key), "digest": digest})
    content = {**vars(key), "action": "created", "key": key.id, "digest": digest, "by": by}
    del content["id"], content["revoked"]
    transaction.events.append(_event(content))
    return key, secret


def _event(content: dict[str, Any]) -> Event:
    return Event(kind=KEY, ref=secrets.token_hex(16), at=now(), content=content)


def _key(row: Any) -> Key:
    return Key(id=row.id, name=row.name, role=row.role, created=row.created, expires=row.expires, revoked=row.revoked)
