"""Whether a server can listen on an address, asked before anything else is started."""

import errno
import os
import socket

from diffedit.errors import CannotListen

_ABSENT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def check_address(host: str, port: int, host_setting: str = "--host", port_setting: str = "--port") -> None:
    """Return if a server can listen on this port of this host.

    A host may have several addresses, as "localhost" has. Servers leave out those that this machine does not have. The
    two settings are what the message of an error tells to change.

    Raises:
        CannotListen: it cannot. The message says why, and what to do.
    """
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise CannotListen(f"the host {host} is unknown; name an address of this machine with {host_setting}") from None
    absent = 0
    for family, kind, protocol, _, address in found:
        try:
            _bind(family, kind, protocol, address)
        except OSError as error:
            if error.errno not in _ABSENT:
                raise CannotListen(_reason(host, port, error, host_setting, port_setting)) from None
            absent += 1
    if absent == len(found):
        raise CannotListen(f"{host} is no address of this machine; choose another one with {host_setting}")


def _bind(family: int, kind: int, protocol: int, address: object) -> None:
    with socket.socket(family, kind, protocol) as probe:
        # As asyncio's servers do.
        if os.name == "posix":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        probe.bind(address)  # type: ignore[arg-type] # it is what getaddrinfo gives for this family


def _reason(host: str, port: int, error: OSError, host_setting: str, port_setting: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"another program uses port {port} of {host}; stop it, or choose another port with {port_setting}"
    if error.errno == errno.EACCES:
        return f"port {port} needs more rights than this program has; choose one above 1023 with {port_setting}"
    settings = f"{host_setting} and {port_setting}"
    return f"cannot listen on port {port} of {host}: {error.strerror}; choose others with {settings}"
