"""Download files over http and https, only from addresses that were checked."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import httpcore

from medloop.errors import RefusedAddress, UserError
from medloop.storage.addresses import check_target, checked_addresses

MAX_REDIRECTS = 5
REDIRECTS = (301, 302, 303, 307, 308)
SECONDS = 30.0
DEFAULT_PORTS = {"http": 80, "https": 443}
# Characters that are not quoted in a target; the percent sign too, because addresses are quoted already.
SAFE = "/%:@!$&'()*+,;=~-._"


@contextmanager
def receive(url: str, *, allow_hosts: Collection[str]) -> Iterator[tuple[Iterator[bytes], int | None]]:
    """Open a file, and yield its content in chunks and its size, if the server sends it."""
    with _explained(url), _follow(url, allow_hosts) as response:
        if response.status != 200:
            raise UserError(
                f"{_without_query(url)} returned HTTP status {response.status}.",
                "Check the address; download files that need a login by hand.",
            )
        size = _header(response, b"content-length")
        yield iter(response.iter_stream()), int(size) if size else None


@contextmanager
def _follow(url: str, allow_hosts: Collection[str]) -> Iterator[httpcore.Response]:
    """Follow redirects, and yield the first other response."""
    for _ in range(MAX_REDIRECTS + 1):
        with _get(_parse(url), allow_hosts) as response:
            if response.status not in REDIRECTS:
                yield response
                return
            url = _next_url(url, response)
    raise UserError(
        f"The address leads through more than {MAX_REDIRECTS} redirects, the last to {_without_query(url)}.",
        "Give the address of the file itself.",
    )


@contextmanager
def _get(parts: SplitResult, allow_hosts: Collection[str]) -> Iterator[httpcore.Response]:
    target = quote(parts.path or "/", safe=SAFE) + (f"?{quote(parts.query, safe=SAFE + '?[]')}" if parts.query else "")
    url = httpcore.URL(scheme=parts.scheme, host=_host(parts), port=parts.port, target=target)
    timeout = dict.fromkeys(("connect", "read", "write", "pool"), SECONDS)
    # A compressed transfer would be stored compressed.
    headers = [("Accept", "*/*"), ("Accept-Encoding", "identity"), ("User-Agent", "medloop")]
    with (
        _pool(parts, allow_hosts) as pool,
        pool.stream("GET", url, headers=headers, extensions={"timeout": timeout}) as response,
    ):
        yield response


def _pool(parts: SplitResult, allow_hosts: Collection[str]) -> httpcore.ConnectionPool:
    """Return connections to checked addresses, or to the proxy of the environment for this host.

    The operator chose the proxy, so it may be internal; the hosts behind it are checked by the same rules.
    """
    port = parts.port or DEFAULT_PORTS[parts.scheme]
    proxy = None if proxy_bypass(f"{parts.hostname}:{port}") else _proxy_for(parts.scheme)
    if proxy is None:
        return httpcore.ConnectionPool(network_backend=_CheckedNetwork(allow_hosts))
    check_target(_host(parts), port, allow_hosts=allow_hosts)
    return httpcore.ConnectionPool(proxy=proxy)


def _proxy_for(scheme: str) -> httpcore.Proxy | None:
    """Return the proxy of the environment for these addresses; errors do not contain its password."""
    url = getproxies().get(scheme)
    if url is None:
        return None
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        sound = parts.scheme in DEFAULT_PORTS and bool(_host(parts)) and parts.port != 0
    except ValueError:
        sound = False
    if not sound:
        raise UserError(
            f"{scheme.upper()}_PROXY is not the address of an HTTP proxy.",
            "Set it to http://host:port, or list hosts that need no proxy in NO_PROXY.",
        )
    auth = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
    return httpcore.Proxy(httpcore.URL(scheme=parts.scheme, host=_host(parts), port=parts.port, target="/"), auth=auth)


def _header(response: httpcore.Response, name: bytes) -> bytes:
    return next((value for key, value in response.headers if key.lower() == name), b"")


def _next_url(url: str, response: httpcore.Response) -> str:
    location = _header(response, b"location").decode("utf-8", "replace")
    try:
        following = urljoin(url, location)
    except ValueError:
        following = ""
    before, after = urlsplit(url).scheme, urlsplit(following).scheme
    if after not in ("http", "https") or (before, after) == ("https", "http"):
        raise RefusedAddress(
            f"A redirect from {before} to {after or 'an invalid address'} is not allowed.",
            "Give the address of the file itself.",
        )
    return following


def _parse(url: str) -> SplitResult:
    """Split an address that has a host and no credentials."""
    try:
        parts = urlsplit(url)
        sound = bool(_host(parts)) and parts.port != 0
    except ValueError:
        sound = False
    if not sound:
        raise UserError("The address has no valid host.", "Check its spelling.")
    if parts.username is not None:
        raise RefusedAddress(
            f"The address of {parts.hostname} contains a user name or password.",
            "Use an address without credentials, such as a presigned one.",
        )
    return parts


def _host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    return host if host.isascii() else host.encode("idna").decode("ascii")


def _without_query(url: str) -> str:
    """Return an address for messages, without its query, which may contain a signature."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{parts.path}"


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """Turn network errors into UserErrors."""
    try:
        yield
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, httpcore.ProxyError) as error:
        raise UserError(
            f"The download from {_without_query(url)} failed ({type(error).__name__}: {error}).",
            "Check the network, and the proxy if HTTPS_PROXY or HTTP_PROXY is set, then try again.",
        ) from error


class _CheckedNetwork(httpcore.NetworkBackend):
    """Connect only to addresses that were checked; certificates are still checked for the host name."""

    def __init__(self, allow_hosts: Collection[str]) -> None:
        self.allow_hosts = allow_hosts
        self.network = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first reachable address of a host."""
        *others, last = checked_addresses(host, port, allow_hosts=self.allow_hosts)
        for address in others:
            try:
                return self.network.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return self.network.connect_tcp(last, port, timeout, local_address, socket_options)
