"""Clients that ask without pause, to see how many answers a second a service gives and how long each takes."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np

from medloop.errors import UserError

# As long as those of browsers and other clients.
BOUNDARY = "------------------------medloop0123456789abcd"
_LENGTH = re.compile(rb"\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Target:
    """A service on this machine, and the whole request that it is sent."""

    port: int
    request: bytes


@dataclass(frozen=True, kw_only=True)
class Load:
    """Answers a second, and how many milliseconds they took."""

    rate: float
    p50: float
    p95: float
    p99: float


def load(target: Target, *, at_once: int, seconds: float) -> Load:
    """Some seconds of so many clients, each of which asks again once it is answered."""
    import uvloop

    took: list[float] = []
    started = time.perf_counter()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_ask(target, at_once, started + seconds, took))
    spent = time.perf_counter() - started
    if not took:
        raise UserError("a service must answer in time", found="no answer", hint="measure for more seconds")
    p50, p95, p99 = (1000 * float(value) for value in np.percentile(took, [50, 95, 99]))
    return Load(rate=len(took) / spent, p50=p50, p95=p95, p99=p99)


def request_of(path: str, body: bytes, *, content_type: str, key: str = "") -> bytes:
    """The bytes of a POST."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Type: {content_type}"]
    lines += [f"Content-Length: {len(body)}", *([f"Authorization: Bearer {key}"] if key else [])]
    return "\r\n".join([*lines, "", ""]).encode() + body


def form_of(
    data: bytes, *, content_type: str = "application/octet-stream", patient: str | None = None
) -> tuple[bytes, str]:
    """A form with one file, and its own content type."""
    head = f'Content-Disposition: form-data; name="file"; filename="a"\r\nContent-Type: {content_type}'
    body = f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()
    if patient is not None:
        field = f'Content-Disposition: form-data; name="patient"\r\n\r\n{patient}'
        body = f"--{BOUNDARY}\r\n{field}\r\n".encode() + body
    return body, f"multipart/form-data; boundary={BOUNDARY}"


class _Client(asyncio.Protocol):
    """One connection; a protocol, since a stream's reader would take a good part of the cores that are measured."""

    def __init__(self, request: bytes, answered: Callable[[float], bool]) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request, self._answered = request, answered
        self._came, self._whole, self._asked = b"", 0, 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._came += data
        if not self._whole and (end := self._came.find(b"\r\n\r\n")) >= 0:
            head = self._came[:end]
            length = _LENGTH.search(head)
            if b" 200 " not in head[:20] or length is None:
                self._fail(head.partition(b"\r\n")[0].decode("latin-1"))
                return
            self._whole = end + 4 + int(length[1])
        if self._whole and len(self._came) >= self._whole:
            if self._answered(time.perf_counter() - self._asked):
                self._ask()
            else:
                self._transport.close()

    def connection_lost(self, _error: Exception | None) -> None:
        if self.ended.done():
            return
        if self._whole and len(self._came) >= self._whole:
            self.ended.set_result(None)
        else:
            self._fail("a closed connection")

    def close(self) -> None:
        self._transport.abort()

    def _ask(self) -> None:
        self._came, self._whole, self._asked = b"", 0, time.perf_counter()
        self._transport.write(self._request)

    def _fail(self, found: str) -> None:
        error = UserError("a service that is measured must answer", found=found, hint="try the request by itself")
        self.ended.set_exception(error)
        self.close()


async def _ask(target: Target, at_once: int, until: float, took: list[float]) -> None:
    def answered(seconds: float) -> bool:
        took.append(seconds)
        return time.perf_counter() < until

    loop = asyncio.get_running_loop()
    clients = [
        (await loop.create_connection(lambda: _Client(target.request, answered), "127.0.0.1", target.port))[1]
        for _ in range(at_once)
    ]
    try:
        await asyncio.gather(*(client.ended for client in clients))
    finally:
        for client in clients:
            client.close()
