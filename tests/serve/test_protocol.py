"""An answer leaves in one piece: its head waits for what comes next, and never for longer."""

from __future__ import annotations

import asyncio
import gc
from typing import Any, cast

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn import Config
from uvicorn.server import ServerState

from medloop.serve.protocol import Connections, GuardedProtocol

ROOM = Connections(most=10, per_address=10)
GET = b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n"
CLOSE = b"GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
TEXT = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]}
STREAM = {"type": "http.response.start", "status": 200, "headers": []}
NOTHING = {"type": "http.response.start", "status": 204, "headers": []}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    path = scope["path"]
    if path == "/asked":
        await receive()
    await send({"/stream": STREAM, "/nothing": NOTHING}.get(path, TEXT))
    if path == "/dies":
        raise RuntimeError
    if path == "/stream":
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
    await send({"type": "http.response.body", "body": b"" if path == "/nothing" else b"text"})


class Recorder:
    """A transport that remembers what it was told to send."""

    def __init__(self, transport: asyncio.Transport, wrote: list[bytes]) -> None:
        self._transport, self._wrote = transport, wrote

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        self._wrote.append(bytes(data))
        self._transport.write(data)


class Recorded(GuardedProtocol):
    def __init__(self, wrote: list[bytes], config: Config) -> None:
        super().__init__(config=config, server_state=ServerState(), app_state={}, room=ROOM)
        self._wrote = wrote

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast("asyncio.Transport", Recorder(transport, self._wrote)))


def pieces(*requests: bytes) -> list[bytes]:
    """What was sent for these requests, piece by piece, until the connection closed or was quiet."""

    async def run() -> list[bytes]:
        wrote: list[bytes] = []
        config = Config(app, lifespan="off", log_level="critical")
        config.load()
        server = await asyncio.get_running_loop().create_server(lambda: Recorded(wrote, config), "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
            writer.write(b"".join(requests))
            came = b""
            while data := await reader.read(65_536):
                came += data
            writer.close()
        assert came == b"".join(wrote)
        return wrote

    return asyncio.run(asyncio.wait_for(run(), 60))


@pytest.mark.parametrize("path", [b"/", b"/asked"])
def test_head_and_body_leave_together(path: bytes) -> None:
    (whole,) = pieces(CLOSE % path)
    assert whole.startswith(b"HTTP/1.1 200 ")
    assert whole.endswith(b"\r\n\r\ntext")


def test_what_is_streamed_does_not_wait_for_its_end() -> None:
    first, *rest = pieces(CLOSE % b"/stream")
    assert first.endswith(b"\r\n\r\n3\r\none\r\n")
    assert b"".join(rest) == b"4\r\ntext\r\n0\r\n\r\n"


@pytest.mark.parametrize("request_bytes", [CLOSE % b"/nothing", (CLOSE % b"/").replace(b"GET", b"HEAD")])
def test_a_head_without_a_body_leaves(request_bytes: bytes) -> None:
    assert b"".join(pieces(request_bytes)).endswith(b"\r\n\r\n")


def test_a_head_leaves_though_the_rest_fails() -> None:
    assert b"".join(pieces(GET % b"/dies")).startswith(b"HTTP/1.1 200 ")


def test_answers_to_requests_in_one_packet_leave_in_order() -> None:
    came = b"".join(pieces(GET % b"/", GET % b"/stream", CLOSE % b"/"))
    assert [came.count(one) for one in (b"HTTP/1.1 200 ", b"\r\n\r\ntext", b"3\r\none")] == [3, 2, 1]
    assert came.index(b"\r\n\r\ntext") < came.index(b"3\r\none") < came.rindex(b"\r\n\r\ntext")


def test_the_word_to_go_on_is_not_held_back() -> None:
    asked = (
        b"POST /asked HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\nx"
    )
    go_on, whole = pieces(asked)
    assert go_on == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert whole.endswith(b"\r\n\r\ntext")


def test_a_closed_connection_is_let_go_of_without_the_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        pieces(GET % b"/", CLOSE % b"/")
        assert not any(type(one) is Recorded for one in gc.get_objects())
    finally:
        gc.enable()
