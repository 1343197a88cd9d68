"""Bodies read with limits on bytes, on time, and on what all of them together take of the memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from fastapi import Request
from starlette.requests import ClientDisconnect

from medloop.errors import RejectedInput
from medloop.serve.refusals import Busy, TooLarge, TooSlow

MEBIBYTE = 1 << 20


class Bodies:
    """What all requests of this process hold in memory, and how much one may bring."""

    def __init__(self, *, most_mib: float, all_mib: float, seconds: float) -> None:
        self._most, self._all, self._seconds = int(most_mib * MEBIBYTE), int(all_mib * MEBIBYTE), seconds
        self._held = 0

    @contextmanager
    def open(self, request: Request, *, most: int | None = None) -> Iterator[Body]:
        """A body to read, which counts as held until the request is answered."""
        body = Body(self, request, most=min(self._most, most or self._most), seconds=self._seconds)
        try:
            yield body
        finally:
            self._held -= body.held

    def take(self, size: int) -> None:
        """Counts bytes as held, or raises Busy where there is no memory for them."""
        if self._held + size > self._all:
            raise Busy("the memory for bodies is taken")
        self._held += size


class Body:
    """One request's body."""

    def __init__(self, bodies: Bodies, request: Request, *, most: int, seconds: float) -> None:
        self._bodies, self._request, self._most, self._seconds = bodies, request, most, seconds
        self._read = self.held = 0

    async def read(self) -> bytes:
        """All of it."""
        return b"".join([piece async for piece in self.pieces()])

    async def pieces(self) -> AsyncIterator[bytes]:
        """All of it as it arrives; each piece counts as held."""
        declared = self._request.headers.get("content-length", "")
        if declared.isdigit() and int(declared[:20]) > self._most:
            raise self._too_large()
        until = asyncio.get_running_loop().time() + self._seconds
        stream = self._request.stream()
        try:
            while True:
                async with asyncio.timeout_at(until):
                    piece = await anext(stream, b"")
                # The stream ends with an empty piece of its own.
                if not piece:
                    return
                if self._read + len(piece) > self._most:
                    raise self._too_large()
                self._read += len(piece)
                self.hold(len(piece))
                yield piece
        except TimeoutError:
            raise TooSlow(
                f"a body must arrive within {self._seconds:g} seconds", found="less of it", hint="send it again"
            ) from None
        except ClientDisconnect:
            raise RejectedInput("a body must be whole", found="a closed connection", hint="send it again") from None

    def hold(self, size: int) -> None:
        """Count what is made of the body as held, too, or raise Busy where there is no memory for it."""
        self._bodies.take(size)
        self.held += size

    def _too_large(self) -> TooLarge:
        return TooLarge(f"a body must have at most {self._most:,} bytes", found="more", hint="send less at once")
