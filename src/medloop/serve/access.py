"""Who asks, what they may, and how often: keys, tokens of an identity provider, roles and rates."""

from __future__ import annotations

import base64
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from anyio import CapacityLimiter, to_thread
from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from medloop.feedback import Key, Role
from medloop.feedback.records import KEY_PREFIX, now
from medloop.serve.refusals import Busy, NoKey, NotAllowed, TooOften

if TYPE_CHECKING:
    from medloop.feedback.keys import Keys
    from medloop.serve.oidc import Tokens

# Whoever may reach a service without access control; it listens on this machine alone.
LOCAL = Key(id="local", name="local", role="admin", created="")
# What an identity provider vouched for need not be checked anew with each request.
REMEMBERED_SECONDS = 5.0
MAX_REMEMBERED = 10_000
MAX_SECRET = 8192
# Tokens that are checked at a time, and that wait for it.
TOKEN_THREADS, MAX_ASKING = 4, 64


class Access:
    """Looks secrets up: keys in the table of keys, anything else with the identity provider where there is one."""

    def __init__(
        self,
        keys: Keys | None,
        *,
        tokens: Tokens | None = None,
        rate: float,
        wrong_rate: float,
        refused: Callable[[str, str, str], None],
    ) -> None:
        self._keys, self._tokens = keys, tokens
        self._refused = refused
        self._rate = rate
        self._known: OrderedDict[bytes, tuple[Key, float]] = OrderedDict()
        self._rates, self._failures = Buckets(rate), Buckets(wrong_rate)
        self._asking, self._limiter = 0, CapacityLimiter(TOKEN_THREADS)

    async def admit(self, request: Request, role: Role) -> Key:
        """Whoever sends this request, where they may do what takes the role."""
        key = await self._who(request)
        if key is None:
            if secret_of(request) and not self._failures.of(address_of(request)).take():
                raise _too_many_failures()
            self._refuse(request, "401", "")
            raise NoKey(
                "a request must carry a valid key",
                found="none" if not secret_of(request) else "one that is unknown, expired or revoked",
                hint="send `Authorization: Bearer KEY`; an admin makes keys with `medloop keys create`",
            )
        if not key.may(role):
            self._refuse(request, "403", key.id)
            raise NotAllowed(f"this takes the role {role}", found=f"the role {key.role}", hint="ask for another key")
        if not self._rates.of(key.id).take():
            raise TooOften(
                f"a key may be used {self._rate:g} times a second", found="more", hint="send it again in a second"
            )
        return key

    async def _who(self, request: Request) -> Key | None:
        if self._keys is None:
            return LOCAL
        secret = secret_of(request)
        if not secret or len(secret) > MAX_SECRET:
            return None
        if self._tokens is not None and not secret.startswith(KEY_PREFIX):
            return await self._vouched_for(request, self._tokens, secret)
        if self._keys.is_fresh:
            return self._keys.find(secret)
        return await run_in_threadpool(self._keys.find, secret)

    async def _vouched_for(self, request: Request, tokens: Tokens, secret: str) -> Key | None:
        digest = hashlib.sha256(secret.encode("utf-8", "replace")).digest()
        key, until = self._known.get(digest, (None, 0.0))
        if until < time.monotonic():
            # Each check takes time, and an unknown signature a question to the provider: it counts until it succeeds.
            bucket = self._failures.of(address_of(request))
            if not bucket.take():
                raise _too_many_failures()
            key = await self._ask_provider(tokens, secret)
            # Whoever holds no valid token is counted by the caller.
            bucket.give_back()
            if key is not None:
                self._remember(digest, key)
        return key if key and key.is_valid(at=now()) else None

    async def _ask_provider(self, tokens: Tokens, secret: str) -> Key | None:
        """On threads of its own, so that a provider that hangs holds up nobody who needs none."""
        if self._asking >= MAX_ASKING:
            raise Busy("many tokens are being checked")
        self._asking += 1
        try:
            return await to_thread.run_sync(tokens.find, secret, limiter=self._limiter)
        finally:
            self._asking -= 1

    def _remember(self, digest: bytes, key: Key) -> None:
        self._known[digest] = (key, time.monotonic() + REMEMBERED_SECONDS)
        self._known.move_to_end(digest)
        while len(self._known) > MAX_REMEMBERED:
            self._known.popitem(last=False)

    def _refuse(self, request: Request, status: str, key: str) -> None:
        route = request.scope.get("route")
        self._refused(status, key, str(getattr(route, "path", "")))


class Bucket:
    """As many takings a second as the rate says, with a second's worth in hand unless told otherwise."""

    def __init__(self, rate: float, *, size: float | None = None) -> None:
        self._rate, self._size = rate, max(rate if size is None else size, 1.0)
        self._left, self._at = self._size, time.monotonic()

    @property
    def is_empty(self) -> bool:
        """Whether nothing could be taken now."""
        moment = time.monotonic()
        self._left = min(self._size, self._left + (moment - self._at) * self._rate)
        self._at = moment
        return self._left < 1.0

    def take(self) -> bool:
        """Whether there was one left."""
        if self.is_empty:
            return False
        self._left -= 1.0
        return True

    def give_back(self) -> None:
        """Put one back that was taken for nothing."""
        self._left += 1.0


class Buckets:
    """A bucket for each name, for the names seen last."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def of(self, name: str) -> Bucket:
        """The bucket of this name."""
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = Bucket(self._rate)
        self._buckets.move_to_end(name)
        if len(self._buckets) > MAX_REMEMBERED:
            self._buckets.popitem(last=False)
        return bucket


def address_of(request: Request) -> str:
    """The address that a request comes from; behind a proxy, the proxy's."""
    return request.client.host if request.client else ""


def _too_many_failures() -> TooOften:
    return TooOften(
        "too many wrong keys have come from this address",
        found="more than serve.wrong_key_limit a second",
        hint="send a valid key, or try again in a second",
    )


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
