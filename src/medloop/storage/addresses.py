"""Check which hosts may be contacted: the public internet, and those that the settings allow."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection

from medloop.errors import RefusedAddress, UserError

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Not for public hosts, though not every Python knows it. The first belongs to Azure's platform.
INTERNAL = tuple(
    map(ipaddress.ip_network, ("168.63.129.16/32", "192.0.0.0/24", "192.88.99.0/24", "2002::/16", "3fff::/20"))
)


def checked_addresses(host: str, port: int, *, allow_hosts: Collection[str]) -> list[str]:
    """Return the addresses of a host, after checking each; connect to these and do not resolve again."""
    addresses = _resolve(host, port)
    if _is_listed(host, port, allow_hosts):
        return addresses
    for address in addresses:
        kind = why_refused(address)
        if kind is not None:
            raise RefusedAddress(
                f"{host} is {address} ({kind}), which is not on the public internet.",
                f"If you trust it, add '{host}:{port}' to `storage.allow_hosts` in the settings.",
            )
    return addresses


def check_target(host: str, port: int, *, allow_hosts: Collection[str]) -> None:
    """Refuse a host that is internal, or unknown here, and not allowed, before a proxy connects to it."""
    if _is_listed(host, port, allow_hosts):
        return
    try:
        checked_addresses(host, port, allow_hosts=allow_hosts)
    except RefusedAddress:
        raise
    except UserError as error:
        # Only the proxy can resolve the name, and it may resolve internal hosts.
        raise RefusedAddress(
            f"{host} cannot be resolved here, so it is unknown whether it is public.",
            f"If you trust it, add '{host}:{port}' to `storage.allow_hosts` in the settings.",
        ) from error


def why_refused(address: str) -> str | None:
    """Return the kind of an address that must not be contacted, else None."""
    ip = _unwrap(ipaddress.ip_address(address))
    kinds = {
        "link-local": ip.is_link_local,
        "loopback": ip.is_loopback,
        "unspecified": ip.is_unspecified,
        "multicast": ip.is_multicast,
        "private": ip.is_private or (isinstance(ip, ipaddress.IPv6Address) and ip.is_site_local),
        "reserved": ip.is_reserved or any(ip in network for network in INTERNAL),
        "not public": not ip.is_global,
    }
    return next((kind for kind, found in kinds.items() if found), None)


def _unwrap(ip: IPAddress) -> IPAddress:
    """Return the IPv4 address that is embedded in an IPv6 address, or the address itself."""
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    if ip in NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip


def _resolve(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UserError(f"{host} cannot be resolved.", "Check the spelling and the network.") from error
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _is_listed(host: str, port: int, allow_hosts: Collection[str]) -> bool:
    host = _plain(host)
    allowed = {_plain(entry) for entry in allow_hosts}
    return not allowed.isdisjoint({host, f"{host}:{port}", f"[{host}]", f"[{host}]:{port}"})


def _plain(host: str) -> str:
    return host.lower().rstrip(".")
