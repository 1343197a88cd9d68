"""Access control: keys, tokens of an identity provider, roles and rate limits."""

from __future__ import annotations

import base64
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

from anyio import CapacityLimiter, to_thread
from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from medloop.feedback import Key, Role
from medloop.feedback.records import KEY_PREFIX
from medloop.serve.http.refusals import Busy, NoKey, NotAllowed, TooOften
from medloop.times import utc_now

if TYPE_CHECKING:
    from medloop.feedback.keys import Keys
    from medloop.serve.http.oidc import Tokens

# The caller of a service without access control, which listens on this machine only.
LOCAL = Key(id="local", name="local", role="admin", created="")
# How long a verified token is cached, so that it is not verified with each request.
CACHE_SECONDS = 5.0
# Tokens, callers and addresses that are remembered.
MAX_REMEMBERED = 10_000
MAX_SECRET_LENGTH = 8192
# Tokens that are verified at the same time, and that may be in progress or wait.
TOKEN_THREADS, MAX_VERIFICATIONS = 4, 64


class Access:
    """Finds the caller of a request: by a key, or by a token if there is an identity provider."""

    def __init__(
        self,
        keys: Keys | None,
        *,
        tokens: Tokens | None = None,
        rate: float,
        wrong_rate: float,
        on_refusal: Callable[[str, str, str], None],
    ) -> None:
        self._keys, self._tokens = keys, tokens
        self._on_refusal = on_refusal
        self._rate = rate
        # By the digest of the token: its owner, and until when that holds.
        self._verified: OrderedDict[bytes, tuple[Key, float]] = OrderedDict()
        self._rate_of = lru_cache(MAX_REMEMBERED)(lambda _key: Bucket(rate))
        self._failures_of = lru_cache(MAX_REMEMBERED)(lambda _address: Bucket(wrong_rate))
        self._verifications, self._limiter = 0, CapacityLimiter(TOKEN_THREADS)

    async def admit(self, request: Request, role: Role) -> Key:
        """Return the caller of a request, or raise an error unless they have this role or a higher one."""
        key = await self._find_key(request)
        if key is None:
            if secret_of(request) and not self._failures_of(address_of(request)).take():
                raise _too_many_failures()
            self._record_refusal(request, "401", "")
            raise NoKey(
                "The key is unknown, expired or revoked." if secret_of(request) else "The request has no key.",
                "Send `Authorization: Bearer KEY`; an admin creates keys with `medloop keys create`.",
            )
        if not key.may(role):
            self._record_refusal(request, "403", key.id)
            raise NotAllowed(
                f"This needs the role {role}, and the key has the role {key.role}.",
                "Ask an admin for a key with that role.",
            )
        if not self._rate_of(key.id).take():
            raise TooOften(
                f"This key has sent more than {self._rate:g} requests in a second.", "Send it again in a second."
            )
        return key

    async def _find_key(self, request: Request) -> Key | None:
        if self._keys is None:
            return LOCAL
        secret = secret_of(request)
        if not secret or len(secret) > MAX_SECRET_LENGTH:
            return None
        if self._tokens is not None and not secret.startswith(KEY_PREFIX):
            return await self._find_token_owner(request, self._tokens, secret)
        if self._keys.is_fresh:
            return self._keys.find(secret)
        return await run_in_threadpool(self._keys.find, secret)

    async def _find_token_owner(self, request: Request, tokens: Tokens, secret: str) -> Key | None:
        digest = hashlib.sha256(secret.encode("utf-8", "replace")).digest()
        key, until = self._verified.get(digest, (None, 0.0))
        if until < time.monotonic():
            # Verification takes time, and an unknown signature a request to the provider: it counts until it succeeds.
            bucket = self._failures_of(address_of(request))
            if not bucket.take():
                raise _too_many_failures()
            key = await self._verify(tokens, secret)
            # `admit` counts tokens that are not valid.
            bucket.give_back()
            if key is not None:
                self._remember(digest, key)
        return key if key and key.is_valid(at=utc_now()) else None

    async def _verify(self, tokens: Tokens, secret: str) -> Key | None:
        """Verify a token on separate threads, so that a provider that hangs delays no other request."""
        if self._verifications >= MAX_VERIFICATIONS:
            raise Busy("Too many tokens are being verified.")
        self._verifications += 1
        try:
            return await to_thread.run_sync(tokens.find, secret, limiter=self._limiter)
        finally:
            self._verifications -= 1

    def _remember(self, digest: bytes, key: Key) -> None:
        self._verified[digest] = (key, time.monotonic() + CACHE_SECONDS)
        self._verified.move_to_end(digest)
        while len(self._verified) > MAX_REMEMBERED:
            self._verified.popitem(last=False)

    def _record_refusal(self, request: Request, status: str, key: str) -> None:
        route = request.scope.get("route")
        self._on_refusal(status, key, str(getattr(route, "path", "")))


class Bucket:
    """A token bucket: refills at the rate, and holds what it gains in one second unless `size` is given."""

    def __init__(self, rate: float, *, size: float | None = None) -> None:
        self._rate, self._size = rate, max(rate if size is None else size, 1.0)
        self._left, self._at = self._size, time.monotonic()

    @property
    def is_empty(self) -> bool:
        """Return whether nothing is left."""
        moment = time.monotonic()
        self._left = min(self._size, self._left + (moment - self._at) * self._rate)
        self._at = moment
        return self._left < 1.0

    def take(self) -> bool:
        """Take one, and return whether one was left."""
        if self.is_empty:
            return False
        self._left -= 1.0
        return True

    def give_back(self) -> None:
        """Put one back."""
        self._left += 1.0


def address_of(request: Request) -> str:
    """Return the address that a request comes from; behind a proxy, that of the proxy."""
    return request.client.host if request.client else ""


def _too_many_failures() -> TooOften:
    return TooOften(
        "Too many wrong keys came from this address (serve.wrong_key_limit).",
        "Send a valid key, or try again in a second.",
    )


def secret_of(request: Request) -> str:
    """Return the key or token of a request: a bearer token, the header X-API-Key, or a browser's password."""
    kind, _, value = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    if kind.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except ValueError:
            return ""
    return request.headers.get("x-api-key", "")
