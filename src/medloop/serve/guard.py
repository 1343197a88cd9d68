"""The outermost layer: host and origin, headers, trace ids, the log line, the count, and what no other layer caught."""

from __future__ import annotations

import ipaddress
import logging
import re
import time
import traceback
import uuid
from collections.abc import Iterable
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from medloop.errors import UserError
from medloop.serve import errors
from medloop.serve.measures import Measures
from medloop.serve.refusals import Misdirected, NotAllowed
from medloop.serve.tracing import STEPS, Tracing

log = logging.getLogger("medloop.serve")
access_log = logging.getLogger("medloop.serve.requests")

# How many names of hosts are remembered, as known or not.
MOST_HOSTS = 256
PIECE_BYTES = 65_536
SAFE = {"GET", "HEAD", "OPTIONS"}
TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
POLICY = (
    b"default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; form-action 'self'; "
    b"frame-ancestors 'none'; base-uri 'none'"
)
# As they are sent, so that no answer takes the time to encode them.
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    # With no-referrer, browsers send `Origin: null` with a form of our own page.
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", POLICY),
)


class Guard:
    """Wraps the application."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        measures: Measures,
        hosts: Iterable[str] | None,
        origins: Iterable[str] = (),
        log_requests: bool = False,
        tracing: Tracing | None = None,
    ) -> None:
        self._app, self._measures = app, measures
        names = None if hosts is None else {host.lower() for host in hosts}
        self._knows = lru_cache(MOST_HOSTS)(lambda host: names is None or is_known(host, names))
        self._origins = set(origins)
        self._log_requests, self._tracing = log_requests, tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = TRACEPARENT.fullmatch(headers.get("traceparent", ""))
        scope.setdefault("state", {})["trace"] = given[1] if given else uuid.uuid4().hex
        if self._tracing is not None:
            scope["state"]["caller"] = (given[2], given[3]) if given else None
            STEPS.set({})
        exchange = Exchange(scope, receive, send)
        started = time.perf_counter()
        try:
            self._check(scope, headers)
            await self._app(scope, exchange.receive, exchange.send)
        except UserError as error:
            await errors.of_user_error(scope, error)(scope, exchange.receive, exchange.send)
        except Exception as error:  # noqa: BLE001 - a bug, told without its words, which may hold a patient's data
            facts = {"trace": scope["state"]["trace"], "kind": type(error).__name__, "at": frames(error)}
            log.error("bug", extra=facts)  # noqa: TRY400 - without its words here, too
            if not exchange.status:
                await errors.of_bug(scope)(scope, exchange.receive, exchange.send)
        self._count(scope, exchange.status, time.perf_counter() - started)

    def _check(self, scope: Scope, headers: Headers) -> None:
        host = headers.get("host", "")
        if not self._knows(host):
            raise Misdirected(
                "a request must name this service as its host",
                found="another name",
                hint="name the host in the settings: serve.hosts",
            )
        origin = headers.get("origin")
        # A page of another site may send a form along with the browser's password.
        if origin and scope["method"] not in SAFE and origin not in self._origins and _host_of(origin) != host.lower():
            raise NotAllowed("a page of another site may not do this", found="another origin", hint="see serve.origins")

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        path = str(getattr(scope.get("route"), "path", "other"))
        method, state = scope["method"] if path != "other" else "", scope["state"]
        self._measures.count_request(path, method, status, seconds)
        if self._tracing is not None:
            self._tracing.record(
                state["trace"], state["caller"], method=method, route=path, status=status, seconds=seconds
            )
        if self._log_requests:
            key = getattr(state.get("key"), "id", "")
            facts = {"trace": state["trace"], "method": scope["method"], "route": path, "status": status}
            access_log.info("request", extra={**facts, "ms": round(seconds * 1000, 2), "key": key})


class Exchange:
    """One request and its response on their way through."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self.status = 0
        headers = Headers(scope=scope)
        self._is_unread = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            self._is_unread = False
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = list(message["headers"])
            given = {name for name, _ in headers}
            headers += [header for header in HEADERS if header[0] not in given]
            headers.append((b"x-trace-id", self._scope["state"]["trace"].encode()))
            if self._is_unread:
                # Else the server would read on, for as long as somebody sends.
                headers.append((b"connection", b"close"))
            message["headers"] = headers
        elif len(message.get("body", b"")) > PIECE_BYTES:
            await self._send_in_pieces(message)
            return
        await self._send(message)

    async def _send_in_pieces(self, message: Message) -> None:
        """The server waits before each until most of those before have been taken."""
        body = memoryview(message["body"])
        starts = range(0, len(body), PIECE_BYTES)
        for start in starts:
            more = start != starts[-1] or message.get("more_body", False)
            piece = bytes(body[start : start + PIECE_BYTES])
            await self._send({"type": "http.response.body", "body": piece, "more_body": more})


def frames(error: BaseException) -> str:
    """Where it happened, without the words of the error."""
    return " < ".join(f"{one.name}:{one.lineno}" for one in reversed(traceback.extract_tb(error.__traceback__)[-6:]))


def is_known(host: str, known: Iterable[str]) -> bool:
    """Whether a Host header is an address, which no other site can own, or a known name."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        urlsplit(f"//{host}").port  # noqa: B018 - raises where it is no number
    except ValueError:
        return False
    if name in known:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _host_of(origin: str) -> Any:
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None
