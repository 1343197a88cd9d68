"""The outermost middleware: host and origin checks, headers, trace ids, request log, metrics, and unexpected errors."""

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
from medloop.serve.http.bodies import Bodies
from medloop.serve.http.errors import error_response
from medloop.serve.http.refusals import Misdirected, NotAllowed
from medloop.serve.telemetry.metrics import Metrics
from medloop.serve.telemetry.tracing import STEPS, Tracing

log = logging.getLogger("medloop.serve")
access_log = logging.getLogger("medloop.serve.requests")

# Host headers whose check is remembered.
MAX_HOSTS = 256
CHUNK_BYTES = 65_536
SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
POLICY = (
    b"default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; form-action 'self'; "
    b"frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    # With no-referrer, browsers would send `Origin: null` with a form of our own page.
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", POLICY),
)


class Guard:
    """Checks each request before the application sees it, and completes each response."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        bodies: Bodies,
        hosts: Iterable[str] | None,
        origins: Iterable[str] = (),
        log_requests: bool = False,
        tracing: Tracing | None = None,
    ) -> None:
        self._app, self._metrics, self._bodies = app, metrics, bodies
        names = None if hosts is None else {host.lower() for host in hosts}
        self._is_known = lru_cache(MAX_HOSTS)(lambda host: names is None or is_known(host, names))
        self._origins = set(origins)
        self._log_requests, self._tracing = log_requests, tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        parent = TRACEPARENT.fullmatch(headers.get("traceparent", ""))
        scope.setdefault("state", {})["trace"] = parent[1] if parent else uuid.uuid4().hex
        if self._tracing is not None:
            scope["state"]["caller"] = (parent[2], parent[3]) if parent else None
            STEPS.set({})
        exchange = Exchange(scope, receive, send, bodies=self._bodies)
        started = time.perf_counter()
        try:
            self._check(scope, headers)
            await self._app(scope, exchange.receive, exchange.send)
        except Exception as error:  # noqa: BLE001 - one of the checks above, or a bug
            if not isinstance(error, UserError):
                # Without the message, which may contain patient data.
                facts = {"trace": scope["state"]["trace"], "kind": type(error).__name__, "at": frames(error)}
                log.error("bug", extra=facts)  # noqa: TRY400
            if not exchange.status:
                await error_response(scope, error)(scope, exchange.receive, exchange.send)
        self._count(scope, exchange.status, time.perf_counter() - started)

    def _check(self, scope: Scope, headers: Headers) -> None:
        host = headers.get("host", "")
        if not self._is_known(host):
            raise Misdirected("The Host header does not name this service.", "Add the name to serve.hosts.")
        origin = headers.get("origin")
        # A page of another site could send a form together with the browser's password.
        if (
            origin
            and scope["method"] not in SAFE_METHODS
            and origin not in self._origins
            and _host_of(origin) != host.lower()
        ):
            raise NotAllowed("Requests from pages of other sites are not allowed.", "Add the site to serve.origins.")

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        path = str(getattr(scope.get("route"), "path", "other"))
        method, state = scope["method"] if path != "other" else "", scope["state"]
        self._metrics.count_request(path, method, status, seconds)
        if self._tracing is not None:
            self._tracing.record(
                state["trace"], state["caller"], method=method, route=path, status=status, seconds=seconds
            )
        if self._log_requests:
            key = getattr(state.get("key"), "id", "")
            facts = {"trace": state["trace"], "method": scope["method"], "route": path, "status": status}
            access_log.info("request", extra={**facts, "ms": round(seconds * 1000, 2), "key": key})


class Exchange:
    """One request and its response on their way through the guard."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, bodies: Bodies) -> None:
        self._scope, self._receive, self._send, self._bodies = scope, receive, send, bodies
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
                # The server would read the rest otherwise, for as long as the client sends.
                headers.append((b"connection", b"close"))
            message["headers"] = headers
            await self._send(message)
            return
        with self._bodies.sending(len(message.get("body", b""))):
            await self._send_in_chunks(message)

    async def _send_in_chunks(self, message: Message) -> None:
        """Send a body; before each chunk the server waits until the client has received most of the previous ones."""
        body = memoryview(message.get("body", b""))
        starts = range(0, max(1, len(body)), CHUNK_BYTES)
        for start in starts:
            more = start != starts[-1] or message.get("more_body", False)
            chunk = bytes(body[start : start + CHUNK_BYTES])
            await self._send({"type": "http.response.body", "body": chunk, "more_body": more})


def frames(error: BaseException) -> str:
    """Return where an error was raised, without its message."""
    return " < ".join(f"{one.name}:{one.lineno}" for one in reversed(traceback.extract_tb(error.__traceback__)[-6:]))


def is_known(host: str, known: Iterable[str]) -> bool:
    """Return whether a Host header is an IP address, which no other site can own, or a known name."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        urlsplit(f"//{host}").port  # noqa: B018 - raises if it is not a number
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
