"""Who asks, what they may, and how often: keys, tokens of an identity provider, roles and rates."""

from __future__ import annotations

import base64
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from medloop.feedback import Key, Role
from medloop.feedback.records import now
from medloop.serve.refusals import NoKey, NotAllowed, TooOften

# Whoever may reach a service without access control; it listens on this machine alone.
LOCAL = Key(id="local", name="local", role="admin", created="")
# A revoked key is refused this much later, at most.
REMEMBERED_SECONDS = 5.0
MOST_REMEMBERED = 10_000
MOST_LOOKUPS = 50.0
LONGEST_SECRET = 8192


class Finder(Protocol):
    """Whose secret this is, if anybody's; may take a while."""

    def __call__(self, secret: str) -> Key | None: ...


class Access:
    """Asks the finder once for each secret and remembers what it said for a few seconds."""

    def __init__(self, find: Finder | None, *, rate: float, refused: Callable[[str, str, str], None]) -> None:
        self._find = find
        self._refused = refused
        self._rate = rate
        self._known: OrderedDict[bytes, tuple[Key | None, float]] = OrderedDict()
        self._rates: dict[str, Bucket] = {}
        self._lookups = Bucket(MOST_LOOKUPS)

    async def admit(self, request: Request, role: Role) -> Key:
        """Whoever sends this request, where they may do what takes the role."""
        key = await self._who(request)
        if key is None:
            self._refuse(request, "401", "")
            raise NoKey(
                "a request must carry a valid key",
                found="none" if not secret_of(request) else "one that is unknown, expired or revoked",
                hint="send `Authorization: Bearer KEY`; an admin makes keys with `medloop keys create`",
            )
        if not key.may(role):
            self._refuse(request, "403", key.id)
            raise NotAllowed(f"this takes the role {role}", found=f"the role {key.role}", hint="ask for another key")
        if not self._rates.setdefault(key.id, Bucket(self._rate)).take():
            raise TooOften(
                f"a key may be used {self._rate:g} times a second", found="more", hint="send it again in a second"
            )
        return key

    async def _who(self, request: Request) -> Key | None:
        if self._find is None:
            return LOCAL
        secret = secret_of(request)
        if not secret or len(secret) > LONGEST_SECRET:
            return None
        digest = hashlib.sha256(secret.encode("utf-8", "replace")).digest()
        key, until = self._known.get(digest, (None, 0.0))
        if until < time.monotonic():
            if not self._lookups.take():
                raise TooOften("unknown keys are looked up slowly", found="too many", hint="send it again in a second")
            key = await run_in_threadpool(self._find, secret)
            self._remember(digest, key)
        return key if key and key.is_valid(at=now()) else None

    def _remember(self, digest: bytes, key: Key | None) -> None:
        self._known[digest] = (key, time.monotonic() + REMEMBERED_SECONDS)
        self._known.move_to_end(digest)
        while len(self._known) > MOST_REMEMBERED:
            self._known.popitem(last=False)
        if len(self._rates) > MOST_REMEMBERED:
            self._rates.clear()

    def _refuse(self, request: Request, status: str, key: str) -> None:
        route = request.scope.get("route")
        self._refused(status, key, str(getattr(route, "path", "")))


class Bucket:
    """As many takings a second as the rate says, with a second's worth in hand."""

    def __init__(self, rate: float) -> None:
        self._rate, self._left, self._at = rate, max(rate, 1.0), time.monotonic()

    def take(self) -> bool:
        """Whether there was one left."""
        moment = time.monotonic()
        self._left = min(max(self._rate, 1.0), self._left + (moment - self._at) * self._rate)
        self._at = moment
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


def secret_of(request: Request) -> str:
    """The key or token of a request: as a bearer token, in a header of its own, or as a browser's password."""
    kind, _, value = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    if kind.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except ValueError:
            return ""
    return request.headers.get("x-api-key", "")
