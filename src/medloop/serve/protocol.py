"""uvicorn's HTTP protocol with limits on what comes before the body, which it does not have."""

from __future__ import annotations

import asyncio
import json
import resource
import weakref
from collections import Counter
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 65_536
# Descriptors that connections must leave: for files, the database, decoders, and what one look at the listener accepts.
RESERVED_DESCRIPTORS = 256
BACKLOG = 128
MAX_PIPELINED = 8
# Of an answer, in bytes a second.
MIN_BYTES_TAKEN = 1000
# Refused connections that are kept for a moment, so that their senders get to read why.
MAX_LINGERING = 64
LINGER_SECONDS = 1.0


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


class Connections:
    """How many connections a process takes, in all and from one address."""

    def __init__(self, *, most: int, per_address: int) -> None:
        self._most, self._per_address = most, per_address
        self._count = 0
        self._by_address: Counter[str] = Counter()
        self.lingering = 0

    def take(self, address: str) -> bool:
        """Whether there is room for one more from this address, which then counts."""
        if self._count >= self._most or self._by_address[address] >= self._per_address:
            return False
        self._count += 1
        self._by_address[address] += 1
        return True

    def give_back(self, address: str) -> None:
        """One from this address has ended."""
        self._count -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]


def room_for(connections: int, *, per_address: int | None) -> Connections:
    """Room for so many connections, as far as the system lets this process have descriptors for them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + RESERVED_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    spare = soft - min(RESERVED_DESCRIPTORS, soft // 2)
    most = connections if soft == resource.RLIM_INFINITY else min(connections, spare)
    return Connections(most=most, per_address=min(most, per_address or max(1, most // 2)))


class WholeAnswers:
    """A transport that sends the head of a response together with what comes next, which spares a call and a packet."""

    def __init__(self, transport: asyncio.Transport, protocol: GuardedProtocol) -> None:
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
        """Send what was kept, and end the connection, at the latest when the time to take it is over."""
        self.end()
        self._transport.close()
        if protocol := self._protocol():
            protocol.watch_writing()


class GuardedProtocol(HttpToolsProtocol):
    """Ends connections that send too much or too slowly around a body, or take answers too slowly; refuses too many."""

    def __init__(
        self, *args: Any, room: Connections, head_seconds: float = 10.0, write_seconds: float = 30.0, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self._room, self._head_seconds, self._write_seconds = room, head_seconds, write_seconds
        self._address = ""
        self._is_refused = False
        # What came since the last byte of a body: a request line, headers, trailers, the frames of chunks.
        self._bytes_around, self._in_head = 0, True
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._answers = WholeAnswers(transport, self)
        self.transport = cast("asyncio.Transport", self._answers)
        self._address = self.client[0] if self.client else ""
        if self._room.take(self._address):
            self._timer = self.loop.call_later(self._head_seconds, self._cut)
        else:
            self._refuse(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        if self._is_refused:
            self._room.lingering -= 1
        else:
            self._room.give_back(self._address)
        if self._writing:
            self._writing.cancel()
        self.pipeline.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            # Closed before it was read, it would take the answer with it.
            self._cut()
        if self.transport.is_closing():
            return
        self._bytes_around += len(data)
        super().data_received(data)
        if self._bytes_around > MAX_HEAD_BYTES:
            self._cut()
        elif self._timer is None and (self.cycle is None or self.cycle.response_complete):
            # An empty line ends the wait for the next request, and begins none.
            self._timer = self.loop.call_later(self._head_seconds, self._cut)

    def _refuse(self, transport: asyncio.Transport) -> None:
        self._is_refused = True
        self._room.lingering += 1
        transport.write(FULL)
        if self._room.lingering <= MAX_LINGERING:
            transport.write_eof()
            self._timer = self.loop.call_later(LINGER_SECONDS, self._cut)
        else:
            transport.close()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - as uvicorn calls it
        self.transport.write(NO_HTTP)
        self.transport.close()

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= MAX_PIPELINED:
            # To the parser this is a broken request.
            raise ValueError("too many requests wait on this connection")
        super().on_message_begin()
        self._in_head, self._bytes_around = True, 0
        if self._timer is None:
            self._timer = self.loop.call_later(self._head_seconds, self._cut)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_timer()
        super().on_headers_complete()

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers come after the request has been read; nobody asks for them.
        if self._in_head:
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        self._bytes_around = 0
        super().on_body(body)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.watch_writing()

    def resume_writing(self) -> None:
        # What waited was taken; what comes next has its own time.
        if self._writing and not self.transport.is_closing():
            self._writing.cancel()
            self._writing = None
        super().resume_writing()

    def watch_writing(self) -> None:
        """End the connection where hardly any of what waits to be sent is taken for a while."""
        if self._writing is None:
            waiting = self.transport.get_write_buffer_size()
            self._writing = self.loop.call_later(self._write_seconds, self._look_at_writing, waiting)

    def _look_at_writing(self, before: int) -> None:
        self._writing = None
        waiting = self.transport.get_write_buffer_size()
        if not waiting:
            return
        if before - waiting < MIN_BYTES_TAKEN * self._write_seconds:
            self.transport.abort()
        else:
            self.watch_writing()

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
