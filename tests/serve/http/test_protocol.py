"""What a client receives over a socket: whole, in order and without waiting for what comes later."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn import Config
from uvicorn.server import ServerState

from medloop.serve.http.protocol import Connections, GuardedProtocol

GET = b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n"
CLOSE = b"GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
TEXT = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]}
STREAM = {"type": "http.response.start", "status": 200, "headers": []}
NOTHING = {"type": "http.response.start", "status": 204, "headers": []}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    path = scope["path"]
    if path == "/reads":
        await receive()
    await send({"/stream": STREAM, "/nothing": NOTHING}.get(path, TEXT))
    if path == "/fails":
        raise RuntimeError
    if path == "/stream":
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
    await send({"type": "http.response.body", "body": b"" if path == "/nothing" else b"text"})


def received(*requests: bytes) -> bytes:
    """Return all that the server sends for these requests until it closes the connection."""

    async def run() -> bytes:
        config = Config(app, lifespan="off", log_level="critical")
        config.load()
        connections = Connections(max_total=10, per_address=10)

        def protocol() -> GuardedProtocol:
            return GuardedProtocol(config=config, server_state=ServerState(), app_state={}, connections=connections)

        server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
            writer.write(b"".join(requests))
            data = await reader.read()
            writer.close()
        return data

    return asyncio.run(asyncio.wait_for(run(), 60))


@pytest.mark.parametrize("path", [b"/", b"/reads"])
def test_a_response_is_whole(path: bytes) -> None:
    response = received(CLOSE % path)
    assert response.startswith(b"HTTP/1.1 200 ")
    assert response.endswith(b"\r\n\r\ntext")


def test_a_streamed_response_is_whole() -> None:
    assert received(CLOSE % b"/stream").endswith(b"\r\n\r\n3\r\none\r\n4\r\ntext\r\n0\r\n\r\n")


@pytest.mark.parametrize("request_bytes", [CLOSE % b"/nothing", (CLOSE % b"/").replace(b"GET", b"HEAD")])
def test_a_response_without_a_body_ends_with_its_headers(request_bytes: bytes) -> None:
    assert received(request_bytes).endswith(b"\r\n\r\n")


def test_a_response_that_fails_halfway_ends_the_connection() -> None:
    assert received(GET % b"/fails").startswith(b"HTTP/1.1 200 ")


def test_pipelined_requests_are_answered_in_order() -> None:
    data = received(GET % b"/", GET % b"/stream", CLOSE % b"/")
    assert [data.count(text) for text in (b"HTTP/1.1 200 ", b"\r\n\r\ntext", b"3\r\none")] == [3, 2, 1]
    assert data.index(b"\r\n\r\ntext") < data.index(b"3\r\none") < data.rindex(b"\r\n\r\ntext")


def test_a_client_that_expects_100_continue_gets_it_first() -> None:
    headers = b"Host: a\r\nConnection: close\r\nContent-Length: 1\r\nExpect: 100-continue"
    data = received(b"POST /reads HTTP/1.1\r\n" + headers + b"\r\n\r\nx")
    assert data.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ")
    assert data.endswith(b"\r\n\r\ntext")
