"""Which network addresses may be fetched from: only those of the public internet."""

import ipaddress
import socket
from contextlib import suppress
from typing import Final

from panelworks.errors import PanelworksError, Rejected, Transient, UnsafeSource
from panelworks.sources.deadline import Deadline, look_up

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_EMBEDDING: Final = (
    (ipaddress.IPv6Network("64:ff9b::/96"), 0),  # NAT64, RFC 6052
    (ipaddress.IPv6Network("::/96"), 0),  # IPv4-compatible, RFC 4291 2.5.5.1
    (ipaddress.IPv6Network("2002::/16"), 80),  # 6to4, RFC 3056
)
"""IPv6 networks that carry an IPv4 address, and how many bits stand to its right."""
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
"""All that IANA has given out of IPv6: fec0::/10, 5f00::/16, 100::/64 and others lie outside."""
_SPECIAL: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        "168.63.129.16/32",  # the wire server of Azure, in every virtual machine there
        "192.0.0.0/24",  # IETF protocol assignments, RFC 6890; 192.0.0.192 is a metadata service
        "192.31.196.0/24",  # AS112, RFC 7535
        "192.52.193.0/24",  # AMT, RFC 7450
        "192.88.99.0/24",  # 6to4 relays, RFC 7526
        "192.175.48.0/24",  # AS112, RFC 7534
        "2001::/23",  # IETF protocol assignments with Teredo, RFC 2928
        "2001:db8::/32",  # documentation, RFC 3849
        "2620:4f:8000::/48",  # AS112, RFC 7534
        "3fff::/20",  # documentation, RFC 9637
    )
)
"""Entries of IANA's special-purpose registries that some version of Python counts as global, and that hold no page;
and a metadata service that lies among public addresses."""
_ISATAP: Final = frozenset({0x00005EFE, 0x02005EFE})
"""Upper half of an interface identifier whose lower half is an IPv4 address, RFC 5214."""
_NO_SUCH_NAME: Final = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})
"""What the name service answers for a name that does not exist, or that has no address."""


def is_public(address: IPAddress) -> bool:
    """Does the address, and any IPv4 address embedded in it, lie on the public internet?"""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        for network, shift in _EMBEDDING:
            if address in network:
                return is_public(ipaddress.IPv4Address((int(address) >> shift) & 0xFFFFFFFF))
        if address not in _GLOBAL_UNICAST or (int(address) >> 32) & 0xFFFFFFFF in _ISATAP:
            return False
    if any(address in network for network in _SPECIAL):
        return False
    return address.is_global and not address.is_multicast


def refuse_inner_number(host: str) -> None:
    """Refuse a host that is given as the number of an inner address; names are checked when they are connected to.

    Raises:
        UnsafeSource: `forbidden_address`.
    """
    with suppress(ValueError):
        if not is_public(ipaddress.ip_address(host.split("%", 1)[0])):
            raise _forbidden(host)


def resolve(host: str, port: int, deadline: Deadline | None = None, *, allow_private: bool) -> str:
    """One IP address of `host`, after every address that it has was checked.

    The caller connects to this very address, so that a name cannot change between check and use.

    Raises:
        UnsafeSource: `forbidden_address`.
        Rejected: `unknown_host`, the name service says that there is no such host.
        Transient: `unreachable`, the name service does not answer now; `too_slow`.
    """
    try:
        addresses = look_up(host, port, deadline)
    except (OSError, UnicodeError) as error:
        raise _lookup_failure(host, error) from error
    if not allow_private:
        for text in addresses:
            if not is_public(ipaddress.ip_address(text.split("%", 1)[0])):
                raise _forbidden(host)
    return addresses[0]


def _lookup_failure(host: str, error: Exception) -> PanelworksError:
    """A name that does not exist is final: a retry gets the same answer. The name service may recover."""
    if isinstance(error, UnicodeError) or (
        isinstance(error, socket.gaierror) and error.errno in _NO_SUCH_NAME
    ):
        return Rejected("unknown_host", f"There is no host {host}.")
    return Transient("unreachable", f"The name service does not answer for {host} now.")


def _forbidden(host: str) -> UnsafeSource:
    return UnsafeSource("forbidden_address", f"{host} is not on the public internet; it is not connected to.")
