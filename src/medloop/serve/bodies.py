"""Bodies read with limits on bytes, on time, and on what all of them together take of the memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
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
    def share(self) -> Iterator[Share]:
        """What one request holds, until it is answered."""
        share = Share(self)
        try:
            yield share
        finally:
            share.end()

    @contextmanager
    def open(self, request: Request, *, most: int | None = None) -> Iterator[Body]:
        """A body to read, which counts as held until the request is answered."""
        share = Share(self)
        try:
            yield Body(share, request, most=min(self._most, most or self._most), seconds=self._seconds)
        finally:
            share.end()

    def take(self, size: int) -> None:
        """Counts bytes as held, or raises Busy where there is no memory for them."""
        if self._held + size > self._all:
            raise Busy("the memory for bodies is taken")
        self._held += size

    @contextmanager
    def sending(self, size: int) -> Iterator[None]:
        """An answer that is being sent; it exists already, so it counts even where there is no room for it."""
        self._held += size
        try:
            yield
        finally:
            self._held -= size

    def give_back(self, size: int) -> None:
        """Counts bytes as held no more."""
        self._held -= size


class Share:
    """The bytes that one request holds."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies, self._held, self._ended = bodies, 0, False

    def hold(self, size: int) -> None:
        """Count so many more, or raise Busy where there is no memory for them."""
        if self._ended:
            raise Busy("the request has ended")
        self._bodies.take(size)
        self._held += size

    def end(self) -> None:
        """Give all of them back."""
        self._bodies.give_back(self._held)
        self._held, self._ended = 0, True


class Body:
    """One request's body."""

    def __init__(self, share: Share, request: Request, *, most: int, seconds: float) -> None:
        self._share, self._request, self._most, self._seconds = share, request, most, seconds
        self._read = 0
        self.hold = share.hold

    async def read(self) -> bytes:
        """All of it."""
        pieces: list[bytes] = []
        await self.read_into(pieces.append)
        return b"".join(pieces)

    async def read_into(self, take: Callable[[bytes], object]) -> None:
        """Hand over each piece as it arrives; it counts as held."""
        declared = self._request.headers.get("content-length", "")
        if declared.isdigit() and int(declared[:20]) > self._most:
            raise self._too_large()
        try:
            async with asyncio.timeout(self._seconds):
                async for piece in self._request.stream():
                    if self._read + len(piece) > self._most:
                        raise self._too_large()
                    self._read += len(piece)
                    self.hold(len(piece))
                    take(piece)
        except TimeoutError:
            raise TooSlow(
                f"a body must arrive within {self._seconds:g} seconds", found="less of it", hint="send it again"
            ) from None
        except ClientDisconnect:
            raise RejectedInput("a body must be whole", found="a closed connection", hint="send it again") from None

    def _too_large(self) -> TooLarge:
        return TooLarge(f"a body must have at most {self._most:,} bytes", found="more", hint="send less at once")
