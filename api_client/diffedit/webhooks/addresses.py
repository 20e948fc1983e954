"""Which addresses a webhook may have. Users name the URLs, and must not reach services of our own network by them."""

import ipaddress
import socket
from collections.abc import Sequence
from typing import TypeAlias

from diffedit.errors import InvalidRequest

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class Forbidden(Exception):
    """A webhook has no address to which we send."""


def networks_of(setting: str) -> tuple[Network, ...]:
    """Return the networks of `Settings.webhook_allow`. Raises InvalidRequest."""
    try:
        return tuple(ipaddress.ip_network(text.strip()) for text in setting.split(",") if text.strip())
    except ValueError as error:
        raise InvalidRequest(f"DIFFEDIT_WEBHOOK_ALLOW: {error}; write networks as 10.1.0.0/16, fd00::/8") from None


def address_of(host: str, port: int, allowed: Sequence[Network], *, encrypted: bool) -> str:
    """Return an address of the host to which a webhook may be sent. Connect to it, and do not look it up again.

    Public addresses need TLS. Others must be in one of the networks `allowed`, and need none there.

    Raises:
        Forbidden: none of its addresses may be used.
        OSError, UnicodeError: the name cannot be resolved.
    """
    found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    for text in found:
        if "%" in text:  # an IPv6 address of one link
            continue
        address = ipaddress.ip_address(text)
        if any(address in network for network in allowed) or (encrypted and is_public(address)):
            return text
    reason = "is private" if encrypted else "needs https, or is private"
    raise Forbidden(f"the address {reason}; DIFFEDIT_WEBHOOK_ALLOW names the networks that may be used")


def is_public(address: Address) -> bool:
    """Return whether an address is public, and so is the IPv4 address for which it stands, if it does."""
    if isinstance(address, ipaddress.IPv6Address):
        nat64 = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None
        if stands_for := address.ipv4_mapped or nat64:
            return is_public(stands_for)
        if any(each and not is_public(each) for each in (address.sixtofour, *(address.teredo or ()))):
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)
