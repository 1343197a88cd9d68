"""Which addresses may be contacted."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from medloop.errors import RefusedAddress, UserError
from medloop.storage.addresses import checked_addresses, why_refused

INTERNAL = {
    "127.0.0.1": "loopback",
    "127.255.255.254": "loopback",
    "0.0.0.0": "unspecified",  # noqa: S104
    "10.0.0.1": "private",
    "172.16.0.1": "private",
    "192.168.1.1": "private",
    "100.64.0.1": "not public",
    "100.100.100.200": "not public",
    "169.254.169.254": "link-local",
    "168.63.129.16": "reserved",
    "192.0.0.192": "reserved",
    "192.88.99.1": "reserved",
    "198.18.0.1": "private",
    "224.0.0.1": "multicast",
    "239.255.255.250": "multicast",
    "240.0.0.1": "private",
    "255.255.255.255": "private",
    "::1": "loopback",
    "::": "unspecified",
    "fe80::1": "link-local",
    "fe80::1%1": "link-local",
    "fc00::1": "private",
    "fd00:ec2::254": "private",
    "fec0::1": "private",
    "ff02::1": "multicast",
    "2001:db8::1": "private",
    "2001:0:7f00:1::": "private",
    "2002:7f00:1::": "reserved",
    "3fff::1": "reserved",
    "64:ff9b:1::7f00:1": "reserved",
    "::7f00:1": "reserved",
    "::ffff:127.0.0.1": "loopback",
    "::ffff:169.254.169.254": "link-local",
    "::ffff:10.0.0.1": "private",
    "64:ff9b::7f00:1": "loopback",
    "64:ff9b::a9fe:a9fe": "link-local",
}
PUBLIC = ["93.184.216.34", "8.8.8.8", "2606:2800:220:1:248:1893:25c8:1946", "64:ff9b::808:808", "::ffff:8.8.8.8"]

Names = dict[str, list[str]]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """What names resolve to; others resolve as always."""
    known: Names = {}
    resolve: Callable[..., list[object]] = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *args, **options: [
            found for address in known.get(host, [host]) for found in resolve(address, *args, **options)
        ],
    )
    return known


@pytest.mark.parametrize(("address", "kind"), INTERNAL.items())
def test_an_address_inside_is_refused(address: str, kind: str) -> None:
    refused = why_refused(address)
    assert refused is not None
    # The registers of special addresses grow with Python, so a neighbouring kind is right too.
    assert refused == kind or {refused, kind} <= {"private", "reserved", "not public"}


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_not_refused(address: str) -> None:
    assert why_refused(address) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "localhost", "::1"])
def test_every_way_to_write_loopback_is_refused(host: str) -> None:
    with pytest.raises(RefusedAddress, match="loopback"):
        checked_addresses(host, 80, allow_hosts=())


def test_one_address_inside_is_enough_to_refuse(names: Names) -> None:
    names["mixed.example"] = ["8.8.8.8", "10.0.0.1"]
    with pytest.raises(RefusedAddress, match=r"mixed\.example is 10\.0\.0\.1 \(private\)"):
        checked_addresses("mixed.example", 80, allow_hosts=())


def test_public_hosts_need_no_permission(names: Names) -> None:
    names["data.example"] = ["8.8.8.8", "93.184.216.34"]
    assert checked_addresses("data.example", 443, allow_hosts=()) == ["8.8.8.8", "93.184.216.34"]


@pytest.mark.parametrize("entry", ["minio", "MinIO", "minio.", "minio:9000"])
def test_an_allowed_host_may_be_inside(entry: str, names: Names) -> None:
    names["minio"] = ["10.0.0.1"]
    assert checked_addresses("minio", 9000, allow_hosts=[entry]) == ["10.0.0.1"]


@pytest.mark.parametrize("entry", ["minio:80", "inio", "min", "10.0.0.1", "*", "", ":9000"])
def test_another_host_or_port_is_no_permission(entry: str, names: Names) -> None:
    names["minio"] = ["10.0.0.1"]
    with pytest.raises(RefusedAddress, match=r"add 'minio:9000' to `storage\.allow_hosts`"):
        checked_addresses("minio", 9000, allow_hosts=[entry])


@pytest.mark.parametrize("entry", ["::1", "[::1]", "[::1]:9000"])
def test_an_address_of_version_6_can_be_allowed(entry: str) -> None:
    assert checked_addresses("::1", 9000, allow_hosts=[entry]) == ["::1"]


@pytest.mark.parametrize("host", ["nowhere.invalid", "a" * 300, "a..b"])
def test_a_host_without_an_address_is_named(host: str) -> None:
    with pytest.raises(UserError, match="cannot be resolved"):
        checked_addresses(host, 80, allow_hosts=())
