"""A small forward proxy on this machine: passes requests on, opens tunnels, and notes what it was asked for."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Proxy(ThreadingHTTPServer):
    """Leads each name that it knows to a port of this machine; a password, where it wants one, is needed."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.ports: dict[str, int] = {}
        self.asked: list[str] = []
        self.authorization: str | None = None
        self.host = f"127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Proxy

    def do_GET(self) -> None:
        if not self._may_pass():
            return
        name = self.path.removeprefix("http://").partition("/")[0]
        upstream = HTTPConnection("127.0.0.1", self.server.ports[name])
        with contextlib.closing(upstream):
            upstream.sock = _connected(self.server.ports[name])
            upstream.request("GET", self.path.removeprefix(f"http://{name}"), headers={"Host": name})
            found = upstream.getresponse()
            content = found.read()
        self.send_response(found.status)
        for header in ("Location", "Content-Type"):
            if found.headers[header]:
                self.send_header(header, found.headers[header])
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_CONNECT(self) -> None:
        if not self._may_pass():
            return
        with _connected(self.server.ports[self.path.partition(":")[0]]) as upstream:
            self.send_response(200)
            self.end_headers()
            ways = {self.connection: upstream, upstream: self.connection}
            while True:
                for one in select.select(list(ways), [], [])[0]:
                    if not (data := one.recv(65536)):
                        return
                    ways[one].sendall(data)

    def _may_pass(self) -> bool:
        self.server.asked.append(f"{self.command} {self.path}")
        if self.headers["Proxy-Authorization"] == self.server.authorization:
            return True
        self.send_response(407)
        self.send_header("Content-Length", "0")
        self.end_headers()
        return False

    def log_message(self, *_: object) -> None: ...


def _connected(port: int) -> socket.socket:
    # `socket.create_connection` is what the tests of medloop's own connections watch.
    connection = socket.socket()
    connection.connect(("127.0.0.1", port))
    return connection


@contextlib.contextmanager
def running_proxy() -> Iterator[Proxy]:
    """A proxy that answers while the block lasts."""
    proxy = Proxy()
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        thread.join()
        proxy.server_close()
