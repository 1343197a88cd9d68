"""Bodies read with limits on bytes, on time, and on what all of them together take of the memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
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
            self._held -= body.size

    def take(self, size: int) -> None:
        """Counts bytes as held, or raises Busy where there is no memory for them."""
        if self._held + size > self._all:
            raise Busy("the memory for bodies is taken")
        self._held += size


class Body:
    """One request's body."""

    def __init__(self, bodies: Bodies, request: Request, *, most: int, seconds: float) -> None:
        self._bodies, self._request, self._most, self._seconds = bodies, request, most, seconds
        self.size = 0

    async def read(self) -> bytearray:
        """All of it."""
        declared = self._request.headers.get("content-length", "")
        if declared.isdigit() and int(declared[:20]) > self._most:
            raise self._too_large()
        try:
            async with asyncio.timeout(self._seconds):
                return await self._read()
        except TimeoutError:
            raise TooSlow(
                f"a body must arrive within {self._seconds:g} seconds", found="less of it", hint="send it again"
            ) from None
        except ClientDisconnect:
            raise RejectedInput("a body must be whole", found="a closed connection", hint="send it again") from None

    async def _read(self) -> bytearray:
        content = bytearray()
        async for piece in self._request.stream():
            if self.size + len(piece) > self._most:
                raise self._too_large()
            self._bodies.take(len(piece))
            self.size += len(piece)
            content += piece
        return content

    def _too_large(self) -> TooLarge:
        return TooLarge(f"a body must have at most {self._most:,} bytes", found="more", hint="send less at once")
