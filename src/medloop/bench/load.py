"""Load from clients that send without pause, to measure the throughput and latency of a service."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np

from medloop.errors import UserError

# As long as the boundaries of browsers and other clients.
BOUNDARY = "------------------------medloop0123456789abcd"
_LENGTH = re.compile(rb"\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Target:
    """A service on this machine, and the bytes of the request to send."""

    port: int
    request: bytes


@dataclass(frozen=True, kw_only=True)
class Load:
    """Requests per second, and latencies in milliseconds."""

    rate: float
    p50: float
    p95: float
    p99: float


def load(target: Target, *, at_once: int, seconds: float) -> Load:
    """Measure for some seconds with this many clients, each of which sends again once it has its response."""
    import uvloop

    latencies: list[float] = []
    started = time.perf_counter()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run_clients(target, at_once, started + seconds, latencies))
    elapsed = time.perf_counter() - started
    if not latencies:
        raise UserError(f"No response within {seconds:g} seconds.", "Measure for longer: --seconds.")
    p50, p95, p99 = (1000 * float(value) for value in np.percentile(latencies, [50, 95, 99]))
    return Load(rate=len(latencies) / elapsed, p50=p50, p95=p95, p99=p99)


def request_of(path: str, body: bytes, *, content_type: str, key: str = "") -> bytes:
    """Return the bytes of a POST request."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Type: {content_type}"]
    lines += [f"Content-Length: {len(body)}", *([f"Authorization: Bearer {key}"] if key else [])]
    return "\r\n".join([*lines, "", ""]).encode() + body


def form_of(
    data: bytes, *, content_type: str = "application/octet-stream", patient: str | None = None
) -> tuple[bytes, str]:
    """Return a form with one file, and its content type."""
    head = f'Content-Disposition: form-data; name="file"; filename="a"\r\nContent-Type: {content_type}'
    body = f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()
    if patient is not None:
        field = f'Content-Disposition: form-data; name="patient"\r\n\r\n{patient}'
        body = f"--{BOUNDARY}\r\n{field}\r\n".encode() + body
    return body, f"multipart/form-data; boundary={BOUNDARY}"


class _Client(asyncio.Protocol):
    """One connection; a protocol rather than streams, which would use much of the processor time being measured."""

    def __init__(self, request: bytes, on_response: Callable[[float], bool]) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request, self._on_response = request, on_response
        self._received, self._length, self._sent_at = b"", 0, 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._length and (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end]
            length = _LENGTH.search(head)
            if b" 200 " not in head[:20] or length is None:
                self._fail(head.partition(b"\r\n")[0].decode("latin-1"))
                return
            self._length = end + 4 + int(length[1])
        if self._length and len(self._received) >= self._length:
            if self._on_response(time.perf_counter() - self._sent_at):
                self._send()
            else:
                self._transport.close()

    def connection_lost(self, _error: Exception | None) -> None:
        if self.ended.done():
            return
        if self._length and len(self._received) >= self._length:
            self.ended.set_result(None)
        else:
            self._fail("it closed the connection")

    def close(self) -> None:
        self._transport.abort()

    def _send(self) -> None:
        self._received, self._length, self._sent_at = b"", 0, time.perf_counter()
        self._transport.write(self._request)

    def _fail(self, problem: str) -> None:
        error = UserError(f"The service did not return a prediction: {problem}.", "Send the request once by hand.")
        self.ended.set_exception(error)
        self.close()


async def _run_clients(target: Target, at_once: int, until: float, latencies: list[float]) -> None:
    def on_response(seconds: float) -> bool:
        latencies.append(seconds)
        return time.perf_counter() < until

    loop = asyncio.get_running_loop()
    clients = [
        (await loop.create_connection(lambda: _Client(target.request, on_response), "127.0.0.1", target.port))[1]
        for _ in range(at_once)
    ]
    try:
        await asyncio.gather(*(client.ended for client in clients))
    finally:
        for client in clients:
            client.close()
