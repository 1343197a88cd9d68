"""Downloads: whole, within limits, and only from addresses that were checked."""

from __future__ import annotations

import hashlib
import socket
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from medloop.errors import RefusedAddress, RejectedInput, UnknownName, UserError
from medloop.storage import Limits, fetch, open_uri, web
from tests.storage.conftest import PUBLIC, Internet, Route, Site, answer, redirect, refuse

CONTENT = b"scan" * 50_000
ELSEWHERE = {
    "metadata": "http://169.254.169.254/latest/meta-data/",
    "loopback by name": "http://localhost/x",
    "loopback by number": "http://2130706433/x",
    "loopback in version 6": "http://[::1]/x",
    "loopback mapped": "http://[::ffff:127.0.0.1]/x",
    "unspecified": "http://0.0.0.0/x",
    "private": "http://10.0.0.1/x",
    "shared": "http://100.100.100.200/x",
    "file": "file:///etc/passwd",
    "ftp": "ftp://127.0.0.1/x",
    "s3": "s3://scans/x",
    "data": "data:text/plain,x",
    "credentials": "http://user:word@127.0.0.1/x",  # pragma: allowlist secret
    "malformed": "http://[::1/x",
}


def test_a_file_comes_whole_and_tells_how_far_it_is(site: Site, tmp_path: Path) -> None:
    site.routes["/data/scans.zip"] = answer(CONTENT)
    told: list[tuple[int, int | None]] = []
    path = fetch(
        site.url("/data/scans.zip?download=1"),
        tmp_path / "raw",
        allow_hosts=[site.host],
        sha256=hashlib.sha256(CONTENT).hexdigest().upper(),
        on_bytes=lambda done, total: told.append((done, total)),
    )
    assert path == tmp_path / "raw" / "scans.zip"
    assert path.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert told == sorted(told)
    assert site.requests[0][0] == "/data/scans.zip?download=1"
    assert site.requests[0][1]["Accept-Encoding"] == "identity"
    assert site.requests[0][1]["Host"] == site.host


def test_odd_letters_in_an_address_are_quoted_once(site: Site, tmp_path: Path) -> None:
    site.routes["/a%20b/Gr%C3%B6%C3%9Fe.csv"] = answer(b"x")
    path = fetch(site.url("/a%20b/Größe.csv?q=ä b"), tmp_path, allow_hosts=[site.host])
    assert path.name == "Größe.csv"
    assert site.requests[0][0].endswith("?q=%C3%A4%20b")


def test_a_web_file_can_be_opened_without_keeping_it(site: Site) -> None:
    site.routes["/x.csv"] = answer(CONTENT)
    with open_uri(site.url("/x.csv"), allow_hosts=[site.host]) as file:
        assert file.read() == CONTENT


@pytest.mark.parametrize(("path", "name"), [("/", "download"), ("/a/", "download"), ("/..%2f..%2fevil", "evil")])
def test_the_name_of_a_download_stays_in_its_folder(path: str, name: str, site: Site, tmp_path: Path) -> None:
    site.routes[path] = answer(b"x")
    assert fetch(site.url(path), tmp_path / "raw", allow_hosts=[site.host]) == tmp_path / "raw" / name


@pytest.mark.parametrize("name", ["%2e%2e", "%2e", "..", "a%00b", "a%5Cb", "C:", "x" * 300])
def test_an_address_without_a_usable_name_is_refused(name: str, site: Site, tmp_path: Path) -> None:
    with pytest.raises(RejectedInput, match="does not end in a usable file name"):
        fetch(site.url(f"/{name}"), tmp_path, allow_hosts=[site.host])
    assert site.connections == 0


def test_an_address_inside_is_not_contacted(site: Site, tmp_path: Path) -> None:
    with pytest.raises(RefusedAddress, match="loopback"):
        fetch(site.url("/x"), tmp_path / "raw")
    assert site.connections == 0
    assert list(tmp_path.iterdir()) == []


def test_a_proxy_in_the_environment_is_no_way_round(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, site.url(""))
    with pytest.raises(RefusedAddress):
        fetch("http://10.0.0.1/x", tmp_path)
    assert site.connections == 0


def test_redirects_are_followed(site: Site, tmp_path: Path) -> None:
    for number, status in enumerate((301, 302, 303, 307, 308)):
        site.routes[f"/{number}"] = redirect(f"{number + 1}", status)
    site.routes["/5"] = answer(CONTENT)
    assert fetch(site.url("/0"), tmp_path, allow_hosts=[site.host]).read_bytes() == CONTENT


def test_a_sixth_redirect_is_not_followed(site: Site, tmp_path: Path) -> None:
    site.routes["/x"] = redirect("/x")
    with pytest.raises(UserError, match="more than 5 redirects"):
        fetch(site.url("/x"), tmp_path, allow_hosts=[site.host])
    assert len(site.requests) == 6


@pytest.mark.parametrize("location", ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_redirect_elsewhere_is_refused(location: str, site: Site, internet: Internet, tmp_path: Path) -> None:
    site.routes["/x"] = redirect(location)
    with pytest.raises(UserError):
        fetch(site.url("/x"), tmp_path / "raw", allow_hosts=[site.host])
    assert internet.contacted == ["127.0.0.1"]
    assert site.connections == 1
    assert list(tmp_path.iterdir()) == []


def test_a_redirect_to_another_port_is_refused(site: Site, other_site: Site, tmp_path: Path) -> None:
    site.routes["/x"] = redirect(other_site.url("/secret"))
    with pytest.raises(RefusedAddress):
        fetch(site.url("/x"), tmp_path, allow_hosts=[site.host])
    assert other_site.connections == 0


def test_the_address_that_was_checked_is_the_one_that_is_contacted(
    site: Site, other_site: Site, internet: Internet, tmp_path: Path
) -> None:
    internet.names["data.example"] = [[PUBLIC], ["127.0.0.1"]]
    internet.sites[PUBLIC] = site
    site.routes["/x"] = answer(CONTENT)
    path = fetch(f"http://data.example:{other_site.server_port}/x", tmp_path)
    assert path.read_bytes() == CONTENT
    assert internet.lookups == ["data.example"]
    assert internet.contacted == [PUBLIC]
    assert other_site.connections == 0


def test_a_name_that_changes_its_address_on_the_way_is_refused(
    site: Site, other_site: Site, internet: Internet, tmp_path: Path
) -> None:
    internet.names["data.example"] = [[PUBLIC], ["127.0.0.1"]]
    internet.sites[PUBLIC] = site
    site.routes["/x"] = redirect(f"http://data.example:{other_site.server_port}/secret")
    with pytest.raises(RefusedAddress, match="loopback"):
        fetch("http://data.example/x", tmp_path)
    assert internet.contacted == [PUBLIC]
    assert other_site.connections == 0


def test_the_next_address_is_tried_when_one_does_not_answer(site: Site, internet: Internet, tmp_path: Path) -> None:
    internet.names["data.example"] = [["8.8.8.8", PUBLIC]]
    internet.sites[PUBLIC] = site
    site.routes["/x"] = answer(b"x")
    assert fetch("http://data.example/x", tmp_path).read_bytes() == b"x"
    assert internet.contacted == ["8.8.8.8", PUBLIC]


def test_a_certificate_is_checked_for_the_name(secure_site: Site, internet: Internet, tmp_path: Path) -> None:
    internet.names = {"data.example": [[PUBLIC]], "other.example": [[PUBLIC]]}
    internet.sites[PUBLIC] = secure_site
    secure_site.routes["/x"] = answer(CONTENT)
    assert fetch("https://data.example/x", tmp_path).read_bytes() == CONTENT
    assert secure_site.requests[0][1]["Host"] == "data.example"
    with pytest.raises(UserError, match="certificate"):
        fetch("https://other.example/x", tmp_path)
    assert len(secure_site.requests) == 1


def test_a_certificate_that_nobody_vouches_for_is_refused(
    secure_site: Site, internet: Internet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    internet.names["data.example"] = [[PUBLIC]]
    internet.sites[PUBLIC] = secure_site
    with pytest.raises(UserError, match="certificate"):
        fetch("https://data.example/x", tmp_path)


def test_a_redirect_from_https_to_http_is_refused(
    secure_site: Site, site: Site, internet: Internet, tmp_path: Path
) -> None:
    internet.names["data.example"] = [[PUBLIC]]
    internet.sites[PUBLIC] = secure_site
    secure_site.routes["/x"] = redirect(site.url("/x"))
    with pytest.raises(RefusedAddress, match="A redirect from https to http "):
        fetch("https://data.example/x", tmp_path, allow_hosts=[site.host])
    assert site.connections == 0


def send_for_ever(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    while True:
        handler.wfile.write(b"1000\r\n" + b"x" * 0x1000 + b"\r\n")


def send_half(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"x" * 500)
    handler.close_connection = True


def send_half_and_stall(handler: BaseHTTPRequestHandler) -> None:
    send_half(handler)
    handler.wfile.flush()
    assert isinstance(handler.server, Site)
    handler.server.released.wait()


def send_nonsense(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"SSH-2.0-x\r\n\r\n")
    handler.close_connection = True


def keeps_the_old_file(site: Site, folder: Path, limits: Limits | None = None) -> str:
    """Why a download fails, having made sure that what was there before still is and nothing else."""
    (folder / "x").write_bytes(b"old")
    with pytest.raises(UserError) as caught:
        fetch(site.url("/x"), folder, limits=limits, allow_hosts=[site.host])
    assert [(path.name, path.read_bytes()) for path in folder.iterdir()] == [("x", b"old")]
    return str(caught.value)


def test_a_download_without_end_is_cut_at_the_limit(site: Site, tmp_path: Path) -> None:
    site.routes["/x"] = send_for_ever
    assert "100,000 are allowed" in keeps_the_old_file(site, tmp_path, Limits(max_bytes=100_000))


def test_a_download_that_announces_too_much_is_not_read(site: Site, tmp_path: Path) -> None:
    site.routes["/x"] = send_half_and_stall
    assert "at least 1,000" in keeps_the_old_file(site, tmp_path, Limits(max_bytes=999))


@pytest.mark.parametrize("route", [send_half, send_nonsense])
def test_a_broken_answer_leaves_the_old_file(route: Route, site: Site, tmp_path: Path) -> None:
    site.routes["/x"] = route
    assert "The download from" in keeps_the_old_file(site, tmp_path)


def test_a_server_that_stalls_is_left(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "SECONDS", 0.2)
    site.routes["/x"] = send_half_and_stall
    assert "ReadTimeout" in keeps_the_old_file(site, tmp_path)


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(UserError, match="ConnectError"):
            fetch(f"http://{host}/x", tmp_path, allow_hosts=[host])


@pytest.mark.parametrize("status", [204, 206, 304, 401, 403, 404, 500])
def test_an_answer_without_the_file_is_told_without_its_signature(status: int, site: Site, tmp_path: Path) -> None:
    site.routes["/x"] = refuse(status)
    with pytest.raises(UserError, match=f"/x returned HTTP status {status}") as caught:
        fetch(site.url("/x?signature=hidden"), tmp_path, allow_hosts=[site.host])
    assert "hidden" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_another_digest_is_refused(site: Site, tmp_path: Path) -> None:
    site.routes["/x"] = answer(CONTENT)
    (tmp_path / "x").write_bytes(b"old")
    with pytest.raises(RejectedInput, match=r"SHA-256 of x is .*, not 0000"):
        fetch(site.url("/x"), tmp_path, allow_hosts=[site.host], sha256="0" * 64)
    assert (tmp_path / "x").read_bytes() == b"old"


def test_credentials_in_an_address_are_refused_and_not_repeated(site: Site, tmp_path: Path) -> None:
    with pytest.raises(RefusedAddress, match="user name or password") as caught:
        fetch(f"http://user:hidden@{site.host}/x", tmp_path, allow_hosts=[site.host])  # pragma: allowlist secret
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("uri", ["http://", "http:///x", "http://[::1/x", "http://host:port/x", "http://host:0/x"])
def test_a_malformed_address_is_named(uri: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no valid host"):
        fetch(uri, tmp_path)


@pytest.mark.parametrize("uri", ["ftp://host/x", "gopher://host/x", "HTTPS://host/x", "hppts://host/x", "://x"])
def test_an_unknown_scheme_is_named(uri: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="http, https, s3"):
        fetch(uri, tmp_path)
