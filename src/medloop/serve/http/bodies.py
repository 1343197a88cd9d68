"""Request bodies, read with limits on bytes and time and on the memory that all requests use together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fastapi import Request
from starlette.requests import ClientDisconnect

from medloop.errors import RejectedInput
from medloop.serve.http.refusals import Busy, TooLarge, TooSlow

MEBIBYTE = 1 << 20


class Bodies:
    """Counts the memory that all requests of this process hold, and limits each body."""

    def __init__(self, *, max_mib: float, max_total_mib: float, seconds: float) -> None:
        self._max, self._max_total, self._seconds = int(max_mib * MEBIBYTE), int(max_total_mib * MEBIBYTE), seconds
        self._held = 0

    @contextmanager
    def share(self) -> Iterator[Share]:
        """Count the memory of one request until the block ends."""
        share = Share(self)
        try:
            yield share
        finally:
            share.end()

    @contextmanager
    def open(self, request: Request, *, max_bytes: int | None = None) -> Iterator[Body]:
        """Open a body for reading; it counts as held until the block ends."""
        with self.share() as share:
            limit = min(self._max, max_bytes or self._max)
            yield Body(share, request, max_bytes=limit, seconds=self._seconds)

    def take(self, size: int) -> None:
        """Count bytes as held, or raise Busy if there is no memory left for them."""
        if self._held + size > self._max_total:
            raise Busy("There is no memory left for another request body.")
        self._held += size

    @contextmanager
    def sending(self, size: int) -> Iterator[None]:
        """Count a response while it is sent; it exists already, so there is no limit."""
        self._held += size
        try:
            yield
        finally:
            self._held -= size

    def give_back(self, size: int) -> None:
        """Stop counting bytes as held."""
        self._held -= size


class Share:
    """The bytes that one request holds."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies, self._held, self._ended = bodies, 0, False

    def hold(self, size: int) -> None:
        """Count more bytes, or raise Busy if there is no memory left for them."""
        if self._ended:
            raise Busy("The request has ended.")
        self._bodies.take(size)
        self._held += size

    def end(self) -> None:
        """Give all bytes back."""
        self._bodies.give_back(self._held)
        self._held, self._ended = 0, True


class Body:
    """The body of one request."""

    def __init__(self, share: Share, request: Request, *, max_bytes: int, seconds: float) -> None:
        self._share, self._request, self._max_bytes, self._seconds = share, request, max_bytes, seconds
        self._read = 0
        self.hold = share.hold

    async def read(self) -> bytes:
        """Return the whole body."""
        pieces: list[bytes] = []
        await self.read_into(pieces.append)
        return b"".join(pieces)

    async def read_into(self, take: Callable[[bytes], object]) -> None:
        """Pass on each piece as it arrives; it counts as held."""
        declared = self._request.headers.get("content-length", "")
        if declared.isdigit() and int(declared[:20]) > self._max_bytes:
            raise self._too_large()
        try:
            async with asyncio.timeout(self._seconds):
                async for piece in self._request.stream():
                    if self._read + len(piece) > self._max_bytes:
                        raise self._too_large()
                    self._read += len(piece)
                    self.hold(len(piece))
                    take(piece)
        except TimeoutError:
            raise TooSlow(f"The body did not arrive within {self._seconds:g} seconds.", "Send it again.") from None
        except ClientDisconnect:
            raise RejectedInput("The connection closed before the whole body had arrived.", "Send it again.") from None

    def _too_large(self) -> TooLarge:
        return TooLarge(f"The body has more than {self._max_bytes:,} bytes.", "Send less at once.")
