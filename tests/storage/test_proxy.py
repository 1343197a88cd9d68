"""Downloads through the proxy of the environment, which opens no way to the hosts inside."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from medloop.errors import RefusedAddress, UserError
from medloop.storage import fetch
from tests.storage.conftest import PUBLIC, Internet, Site, answer, redirect
from tests.storage.proxy import Proxy, running_proxy

CONTENT = b"scan" * 50_000
INTERNAL = [
    "http://10.0.0.1/x",
    "http://localhost/x",
    "http://[::1]/x",
    "http://inside.example/x",
    "https://10.0.0.1/x",
]


@pytest.fixture
def proxy(internet: Internet, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy that the environment names for every address."""
    internet.names = {"data.example": [[PUBLIC]], "other.example": [[PUBLIC]], "inside.example": [["10.0.0.1"]]}
    with running_proxy() as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.host}")
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.host}")
        yield proxy


@pytest.fixture
def public_site(site: Site, internet: Internet) -> Site:
    """A site on the internet, with a file."""
    internet.sites[PUBLIC] = site
    site.routes["/x"] = answer(CONTENT)
    return site


def test_a_file_comes_through_the_proxy(site: Site, proxy: Proxy, internet: Internet, tmp_path: Path) -> None:
    site.routes["/x"] = answer(CONTENT)
    proxy.ports["data.example"] = site.server_port
    assert fetch("http://data.example/x?a=b", tmp_path).read_bytes() == CONTENT
    assert proxy.asked == ["GET http://data.example/x?a=b"]
    assert site.requests[0][0] == "/x?a=b"
    assert internet.contacted == ["127.0.0.1"]


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY"])
def test_the_proxy_may_be_named_without_a_scheme(
    name: str, site: Site, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HTTP_PROXY")
    monkeypatch.setenv(name, proxy.host)
    site.routes["/x"] = answer(CONTENT)
    proxy.ports["data.example"] = site.server_port
    assert fetch("http://data.example/x", tmp_path).read_bytes() == CONTENT


def test_https_goes_through_a_tunnel_and_the_certificate_is_checked_for_the_name(
    secure_site: Site, proxy: Proxy, internet: Internet, tmp_path: Path
) -> None:
    secure_site.routes["/x"] = answer(CONTENT)
    proxy.ports = dict.fromkeys(("data.example", "other.example"), secure_site.server_port)
    assert fetch("https://data.example/x", tmp_path).read_bytes() == CONTENT
    with pytest.raises(UserError, match="certificate"):
        fetch("https://other.example/x", tmp_path)
    assert proxy.asked == ["CONNECT data.example:443", "CONNECT other.example:443"]
    assert internet.contacted == ["127.0.0.1"] * 2
    assert len(secure_site.requests) == 1


@pytest.mark.parametrize("exempt", ["data.example", ".example", "*", "a.b, data.example:80"])
def test_a_host_without_a_proxy_is_contacted_directly(
    exempt: str, public_site: Site, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", exempt)
    assert fetch("http://data.example/x", tmp_path).read_bytes() == CONTENT
    assert len(public_site.requests) == 1
    with pytest.raises(RefusedAddress):
        fetch("http://10.0.0.1/x", tmp_path)
    assert proxy.asked == []


@pytest.mark.parametrize("url", INTERNAL)
def test_the_proxy_is_not_asked_for_a_host_inside(url: str, proxy: Proxy, internet: Internet, tmp_path: Path) -> None:
    with pytest.raises(RefusedAddress):
        fetch(url, tmp_path)
    assert proxy.asked == []
    assert internet.contacted == []


@pytest.mark.parametrize("url", INTERNAL[:-1])
def test_a_redirect_inside_is_not_followed_through_the_proxy(
    url: str, site: Site, proxy: Proxy, tmp_path: Path
) -> None:
    site.routes["/x"] = redirect(url)
    proxy.ports["data.example"] = site.server_port
    with pytest.raises(RefusedAddress):
        fetch("http://data.example/x", tmp_path)
    assert proxy.asked == ["GET http://data.example/x"]


def test_a_name_that_only_the_proxy_knows_must_be_allowed(site: Site, proxy: Proxy, tmp_path: Path) -> None:
    site.routes["/x"] = answer(CONTENT)
    proxy.ports["scans.invalid"] = site.server_port
    with pytest.raises(RefusedAddress, match="cannot be resolved here") as refused:
        fetch("http://scans.invalid/x", tmp_path)
    assert "'scans.invalid:80' to `storage.allow_hosts`" in refused.value.hint
    assert proxy.asked == []
    assert fetch("http://scans.invalid/x", tmp_path, allow_hosts=["scans.invalid"]).read_bytes() == CONTENT


def test_a_password_reaches_the_proxy_and_no_message(
    secure_site: Site, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secure_site.routes["/x"] = answer(CONTENT)
    proxy.ports["data.example"] = secure_site.server_port
    proxy.authorization = "Basic " + b64encode(b"me:h@dden").decode()
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:h%40dden@{proxy.host}")  # pragma: allowlist secret
    assert fetch("https://data.example/x", tmp_path).read_bytes() == CONTENT
    proxy.authorization = "Basic another"
    with pytest.raises(UserError, match="407") as refused:
        fetch("https://data.example/x", tmp_path)
    assert "dden" not in str(refused.value)


SOCKS = "socks5://me:hidden@127.0.0.1:1"  # pragma: allowlist secret


@pytest.mark.parametrize("url", [SOCKS, "http://", "http://[::1", "http://h:port"])
def test_a_proxy_that_cannot_be_used_is_told(
    url: str, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", url)
    with pytest.raises(UserError, match="HTTP_PROXY is not the address") as refused:
        fetch("http://data.example/x", tmp_path)
    assert "hidden" not in str(refused.value)
    assert proxy.asked == []
