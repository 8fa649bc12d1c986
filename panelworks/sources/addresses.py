"""The network addresses that downloads may use: only those of the public internet."""

import ipaddress
import socket
from contextlib import suppress
from typing import Final

from panelworks.errors import PanelworksError, Rejected, Transient, UnsafeSource
from panelworks.sources.deadline import Deadline, look_up

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_EMBEDDED_IPV4_NETWORKS: Final = (
    (ipaddress.IPv6Network("64:ff9b::/96"), 0),  # NAT64, RFC 6052
    (ipaddress.IPv6Network("::/96"), 0),  # IPv4-compatible, RFC 4291 2.5.5.1
    (ipaddress.IPv6Network("2002::/16"), 80),  # 6to4, RFC 3056
)
"""IPv6 networks that embed an IPv4 address, and the number of bits to its right."""
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
"""The IPv6 range that IANA has allocated; fec0::/10, 5f00::/16, 100::/64 and others are outside."""
_SPECIAL_NETWORKS: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        "168.63.129.16/32",  # the internal server of Azure, in every virtual machine there
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
"""Entries of IANA's special-purpose registries that some versions of Python count as global, and a metadata service with
a public address."""
_ISATAP: Final = frozenset({0x00005EFE, 0x02005EFE})
"""Upper half of an interface identifier whose lower half is an IPv4 address, RFC 5214."""
_UNKNOWN_NAME_ERRORS: Final = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})
"""Errors of the name service for a name that does not exist or has no address."""


def is_public(address: IPAddress) -> bool:
    """Is the address, with any IPv4 address embedded in it, on the public internet?"""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        for network, shift in _EMBEDDED_IPV4_NETWORKS:
            if address in network:
                return is_public(ipaddress.IPv4Address((int(address) >> shift) & 0xFFFFFFFF))
        if address not in _GLOBAL_UNICAST or (int(address) >> 32) & 0xFFFFFFFF in _ISATAP:
            return False
    if any(address in network for network in _SPECIAL_NETWORKS):
        return False
    return address.is_global and not address.is_multicast


def refuse_private_ip(host: str) -> None:
    """Refuse a host that is the IP address of a private host. Names are checked when they are resolved.

    Raises:
        UnsafeSource: `forbidden_address`.
    """
    with suppress(ValueError):
        if not is_public(ipaddress.ip_address(host.split("%", 1)[0])):
            raise _forbidden(host)


def resolve(host: str, port: int, deadline: Deadline | None = None, *, allow_private: bool) -> str:
    """One IP address of `host`, after all its addresses were checked.

    The caller connects to this address, so that the result of the lookup cannot change between check and use.

    Raises:
        UnsafeSource: `forbidden_address`.
        Rejected: `unknown_host`, the host does not exist.
        Transient: `unreachable`, the name service does not answer; `too_slow`.
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
    """The error for a failed lookup: a name that does not exist is final, other failures are retried."""
    if isinstance(error, UnicodeError) or (
        isinstance(error, socket.gaierror) and error.errno in _UNKNOWN_NAME_ERRORS
    ):
        return Rejected("unknown_host", f"There is no host {host}.")
    return Transient("unreachable", f"The name service does not answer for {host}.")


def _forbidden(host: str) -> UnsafeSource:
    return UnsafeSource(
        "forbidden_address", f"{host} is not on the public internet; connections to it are not allowed."
    )
