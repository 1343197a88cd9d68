"""uvicorn's HTTP protocol with the limits it lacks: on headers, pipelining, slow clients and connections."""

from __future__ import annotations

import asyncio
import json
import resource
from collections import Counter
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from medloop.serve.http.refusals import SEE_DOCS

MAX_HEAD_BYTES = 65_536
# Descriptors that connections leave free: for files, the database, decoders, and connections being accepted.
RESERVED_DESCRIPTORS = 256
BACKLOG = 128
MAX_PIPELINED = 8
# How slowly a client may receive a response.
MIN_BYTES_PER_SECOND = 1000
# Refused connections that stay open for a moment, so that their clients receive the reason.
MAX_LINGERING = 64
LINGER_SECONDS = 1.0


def refusal(status: str, **content: str) -> bytes:
    """Return a whole response to what never becomes a request, and so has no trace id."""
    body = json.dumps({**content, "trace_id": ""})
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {len(body)}"
    return f"{head}\r\n\r\n{body}".encode("ascii")


FULL = refusal(
    "503 Service Unavailable\r\nRetry-After: 1",
    error="Busy",
    message="Too many connections.",
    hint="Send the request again later.",
)
BAD_REQUEST = refusal(
    "400 Bad Request", error="InvalidRequest", message="This is not a valid HTTP request.", hint=SEE_DOCS
)


class Connections:
    """Counts the connections of a process against limits, in total and per address."""

    def __init__(self, *, max_total: int, per_address: int) -> None:
        self._max_total, self._per_address = max_total, per_address
        self._count = 0
        self._by_address: Counter[str] = Counter()
        self.lingering = 0

    def take(self, address: str) -> bool:
        """Count one more connection from this address, and return whether there was room for it."""
        if self._count >= self._max_total or self._by_address[address] >= self._per_address:
            return False
        self._count += 1
        self._by_address[address] += 1
        return True

    def give_back(self, address: str) -> None:
        """Stop counting a connection from this address."""
        self._count -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]


def limit_connections(max_connections: int, *, per_address: int | None) -> Connections:
    """Return the limits on connections, as far as the system allows this process descriptors for them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max_connections + RESERVED_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    spare = soft - min(RESERVED_DESCRIPTORS, soft // 2)
    total = max_connections if soft == resource.RLIM_INFINITY else min(max_connections, spare)
    return Connections(max_total=total, per_address=min(total, per_address or max(1, total // 2)))


class GuardedProtocol(HttpToolsProtocol):
    """Closes connections that send too much or too slowly around a body, or receive too slowly; refuses excess ones."""

    def __init__(
        self,
        *args: Any,
        connections: Connections,
        head_seconds: float = 10.0,
        write_seconds: float = 30.0,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self._limits, self._head_seconds, self._write_seconds = connections, head_seconds, write_seconds
        self._address = ""
        self._is_refused = False
        # Received since the last byte of a body: a request line, headers, trailers, the frames of chunks.
        self._bytes_around, self._in_head = 0, True
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._address = self.client[0] if self.client else ""
        if self._limits.take(self._address):
            self._timer = self.loop.call_later(self._head_seconds, self._cut)
        else:
            self._refuse(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        if self._is_refused:
            self._limits.lingering -= 1
        else:
            self._limits.give_back(self._address)
        if self._writing:
            self._writing.cancel()
        self.pipeline.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            # If the socket were closed with unread data, the client would not receive the reason.
            self._cut()
        if self.transport.is_closing():
            return
        self._bytes_around += len(data)
        super().data_received(data)
        if self._bytes_around > MAX_HEAD_BYTES:
            self._cut()
        elif self._timer is None and (self.cycle is None or self.cycle.response_complete):
            # An empty line cancels the keep-alive timer, and does not begin a request.
            self._timer = self.loop.call_later(self._head_seconds, self._cut)

    def _refuse(self, transport: asyncio.Transport) -> None:
        self._is_refused = True
        self._limits.lingering += 1
        transport.write(FULL)
        if self._limits.lingering <= MAX_LINGERING:
            transport.write_eof()
            self._timer = self.loop.call_later(LINGER_SECONDS, self._cut)
        else:
            transport.close()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn passes it
        self.transport.write(BAD_REQUEST)
        self._close()

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= MAX_PIPELINED:
            # The parser treats this as a malformed request.
            raise ValueError("too many pipelined requests")
        super().on_message_begin()
        self._in_head, self._bytes_around = True, 0
        if self._timer is None:
            self._timer = self.loop.call_later(self._head_seconds, self._cut)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_timer()
        super().on_headers_complete()

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers are ignored.
        if self._in_head:
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        self._bytes_around = 0
        super().on_body(body)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_writing()

    def resume_writing(self) -> None:
        # The client has received what waited; the next data has a time limit of its own.
        if self._writing and not self.transport.is_closing():
            self._writing.cancel()
            self._writing = None
        super().resume_writing()

    def _watch_writing(self) -> None:
        """Abort the connection if the client receives too little within the time limit."""
        if self._writing is None:
            waiting = self.transport.get_write_buffer_size()
            self._writing = self.loop.call_later(self._write_seconds, self._check_writing, waiting)

    def _check_writing(self, before: int) -> None:
        self._writing = None
        waiting = self.transport.get_write_buffer_size()
        if not waiting:
            return
        if before - waiting < MIN_BYTES_PER_SECOND * self._write_seconds:
            self.transport.abort()
        else:
            self._watch_writing()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._watch_writing()

    def timeout_keep_alive_handler(self) -> None:
        self._close()

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _cut(self) -> None:
        self._timer = None
        self._close()

    def _close(self) -> None:
        """Close the connection once the client has read the rest of the response, or the time for that is over."""
        if not self.transport.is_closing():
            self.transport.close()
            self._watch_writing()
