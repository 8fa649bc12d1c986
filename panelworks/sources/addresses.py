"""Which network addresses may be fetched from: only those of the public internet."""

import ipaddress
import socket
from typing import Final

from panelworks.errors import Transient, UnsafeSource

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_EMBEDDING: Final = (
    (ipaddress.IPv6Network("64:ff9b::/96"), 0),  # NAT64, RFC 6052
    (ipaddress.IPv6Network("::/96"), 0),  # IPv4-compatible, RFC 4291 2.5.5.1
    (ipaddress.IPv6Network("2002::/16"), 80),  # 6to4, RFC 3056
)
"""IPv6 networks that carry an IPv4 address, and how many bits stand to its right."""
_NEVER: Final = (
    ipaddress.IPv6Network("64:ff9b:1::/48"),  # local-use NAT64, RFC 8215
    ipaddress.IPv6Network("::ffff:0:0:0/96"),  # IPv4-translated, RFC 2765
    ipaddress.IPv6Network("fec0::/10"),  # site-local, RFC 3879
)
"""IPv6 networks that Python counts as global, and that lead inside."""


def is_public(address: IPAddress) -> bool:
    """Does the address, and any IPv4 address embedded in it, lie on the public internet?"""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address.teredo is not None or any(address in network for network in _NEVER):
            return False
        for network, shift in _EMBEDDING:
            if address in network:
                return is_public(ipaddress.IPv4Address((int(address) >> shift) & 0xFFFFFFFF))
    return address.is_global and not address.is_multicast


def resolve(host: str, port: int, *, allow_private: bool) -> str:
    """One IP address of `host`, after every address that it has was checked.

    The caller connects to this very address, so that a name cannot change between check and use.

    Raises:
        UnsafeSource: `forbidden_address`.
        Transient: `unknown_host`.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Transient("unknown_host", f"The host {host} cannot be found.") from error
    addresses = [str(entry[4][0]) for entry in found]
    if not allow_private:
        for text in addresses:
            if not is_public(ipaddress.ip_address(text.split("%", 1)[0])):
                raise UnsafeSource(
                    "forbidden_address", f"{host} is not on the public internet; it is not fetched from."
                )
    return addresses[0]
