"""uvicorn's HTTP protocol with limits on what comes before the body, which it does not have."""

from __future__ import annotations

import asyncio
import json
import weakref
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEAD_BYTES = 65_536
MOST_CONNECTIONS = 2_000


def refusal(status: str, **content: str) -> bytes:
    """A whole response for what never becomes a request, and so has no trace."""
    body = json.dumps({**content, "trace_id": ""})
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {len(body)}"
    return f"{head}\r\n\r\n{body}".encode("ascii")


FULL = refusal(
    "503 Service Unavailable\r\nRetry-After: 1", error="Busy", message="too many connections", hint="send it later"
)
NO_HTTP = refusal(
    "400 Bad Request", error="InvalidRequest", message="this is no HTTP", hint="see /docs for the form of a request"
)


class WholeAnswers:
    """A transport that sends the head of a response together with what comes next, which spares a call and a packet."""

    def __init__(self, transport: asyncio.Transport, protocol: HttpToolsProtocol) -> None:
        # The two would hold each other, and so what the connection held until Python's collector comes.
        self._transport, self._protocol = transport, weakref.ref(protocol)
        self._has_begun = False
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send this, or keep it if it is the first that the response of a request writes."""
        protocol = self._protocol()
        cycle = protocol.cycle if protocol else None
        if not self._has_begun and cycle is not None and cycle.response_started:
            self._has_begun, self._head = True, data
        elif self._head:
            head, self._head = self._head, b""
            self._transport.write(head + data)
        else:
            self._transport.write(data)

    def end(self) -> None:
        """Send what was kept; the next response begins anew."""
        if self._head:
            self.write(b"")
        self._has_begun = False

    def close(self) -> None:
        """Send what was kept, and end the connection."""
        self.end()
        self._transport.close()


class GuardedProtocol(HttpToolsProtocol):
    """Ends connections whose request line and headers are too long or too slow, and refuses too many of them."""

    def __init__(self, *args: Any, head_seconds: float = 10.0, **options: Any) -> None:
        super().__init__(*args, **options)
        self._head_seconds = head_seconds
        self._head_bytes, self._in_head = 0, True
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._answers = WholeAnswers(transport, self)
        self.transport = cast("asyncio.Transport", self._answers)
        self._timer = self.loop.call_later(self._head_seconds, self._cut)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.write(FULL)
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > MOST_HEAD_BYTES:
            self._cut()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - as uvicorn calls it
        self.transport.write(NO_HTTP)
        self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0
        if self._timer is None:
            self._timer = self.loop.call_later(self._head_seconds, self._cut)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_timer()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        self._answers.end()
        super().on_response_complete()

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _cut(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.close()
