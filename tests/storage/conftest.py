"""Stand-ins for what medloop reads from: a web site, with and without TLS, an internet and an object store."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
Route = Callable[[BaseHTTPRequestHandler], None]
PUBLIC = "93.184.216.34"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-ins are on this machine, whatever way this machine has to the internet."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def answer(content: bytes, **headers: str) -> Route:
    """A route that sends a file."""

    def route(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(content)

    return route


def redirect(location: str, status: int = 302) -> Route:
    """A route that sends elsewhere."""

    def route(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Location", location)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return route


def refuse(status: int) -> Route:
    """A route that answers without a file."""

    def route(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.end_headers()
        handler.close_connection = True

    return route


class Site(ThreadingHTTPServer):
    """A web site on this machine, with a route a path."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.routes: dict[str, Route] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.connections = 0
        self.released = threading.Event()
        self.host = f"127.0.0.1:{self.server_port}"

    def url(self, path: str) -> str:
        return f"http://{self.host}{path}"

    def get_request(self) -> Any:
        self.connections += 1
        return super().get_request()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what many tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Site

    def do_GET(self) -> None:
        self.server.requests.append((self.path, dict(self.headers)))
        self.server.routes[self.path.partition("?")[0]](self)

    def log_message(self, *_: object) -> None: ...


@contextlib.contextmanager
def running(site: Site) -> Iterator[Site]:
    thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        site.released.set()
        site.shutdown()
        thread.join()
        site.server_close()


@pytest.fixture
def site() -> Iterator[Site]:
    with running(Site()) as running_site:
        yield running_site


@pytest.fixture
def other_site() -> Iterator[Site]:
    with running(Site()) as running_site:
        yield running_site


@pytest.fixture
def secure_site(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A site with a certificate for data.example, which this process trusts."""
    folder = tmp_path_factory.mktemp("certificate")
    write_certificate(folder, "data.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "certificate.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    secure = Site()
    secure.socket = context.wrap_socket(secure.socket, server_side=True)
    with running(secure) as running_site:
        yield running_site


def write_certificate(folder: Path, name: str) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    today = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


class Internet:
    """Names that resolve as a test says, and public addresses that lead to a site on this machine."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: dict[str, list[list[str]]] = {}
        self.sites: dict[str, Site] = {}
        self.lookups: list[str] = []
        self.contacted: list[str] = []
        self._getaddrinfo, self._connect = socket.getaddrinfo, socket.create_connection
        monkeypatch.setattr(socket, "getaddrinfo", self.resolve)
        monkeypatch.setattr(socket, "create_connection", self.connect)

    def resolve(self, host: Any, port: Any, *args: Any, **options: Any) -> Any:
        """The first answer for a name, then the next one, then the last one for ever."""
        if host not in self.names:
            return self._getaddrinfo(host, port, *args, **options)
        self.lookups.append(host)
        answers = self.names[host]
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [found for address in addresses for found in self._getaddrinfo(address, port, *args, **options)]

    def connect(self, address: tuple[str, int], *args: Any, **options: Any) -> socket.socket:
        self.contacted.append(address[0])
        if address[0] in self.sites:
            return self._connect(("127.0.0.1", self.sites[address[0]].server_port), *args, **options)
        if address[0].startswith("127."):
            return self._connect(address, *args, **options)
        raise ConnectionRefusedError(address[0])


@pytest.fixture
def internet(monkeypatch: pytest.MonkeyPatch) -> Internet:
    return Internet(monkeypatch)


@pytest.fixture(scope="session")
def object_store() -> Iterator[str]:
    """The address of an object store."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(object_store: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, bytes], None]]:
    """An empty bucket named `scans`, as a function that puts objects into it."""
    import boto3

    for name, value in {
        "AWS_ENDPOINT_URL": object_store,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", endpoint_url=object_store)
    client.create_bucket(Bucket="scans")
    yield lambda key, content: client.put_object(Bucket="scans", Key=key, Body=content) and None
    for found in client.list_objects_v2(Bucket="scans").get("Contents", []):
        client.delete_object(Bucket="scans", Key=found["Key"])
    client.delete_bucket(Bucket="scans")
    client.close()
