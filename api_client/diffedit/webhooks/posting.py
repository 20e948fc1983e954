"""One HTTP request to a webhook.

It is made with Python's own HTTP client because the connection must go to the address that was checked, must follow no
redirect, must use no proxy of the environment, and must end in time, whatever the receiver does.
"""

import http.client
import socket
import ssl
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from urllib.parse import urlsplit

from diffedit.webhooks.addresses import Network, address_of

CONNECT_SECONDS = 5.0
TOTAL_SECONDS = 15.0
"""From the connection to the end of the answer."""
MAX_ANSWER = 64 * 1024
"""Bytes of an answer's body that are read. Nothing is done with them; a longer answer is cut off."""


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    allowed: Sequence[Network] = (),
    context: ssl.SSLContext | None = None,
    seconds: float = TOTAL_SECONDS,
) -> int:
    """Send a body and return the status of the answer. Takes at most `seconds`, besides the time that DNS takes.

    Raises:
        Forbidden: the URL leads to an address that may not be used.
        OSError, UnicodeError, http.client.HTTPException: no answer.
    """
    parts = urlsplit(url)
    encrypted, host = parts.scheme == "https", parts.hostname or ""
    port = parts.port or (443 if encrypted else 80)
    address = address_of(host, port, allowed, encrypted=encrypted)
    connected = socket.create_connection((address, port), timeout=min(CONNECT_SECONDS, seconds))
    overdue = threading.Event()

    def cut_off() -> None:
        overdue.set()
        with suppress(OSError):
            socket.socket.shutdown(connected, socket.SHUT_RDWR)  # that of a TLS socket disturbs its reader

    # A timeout of the socket is one of each read: a receiver could send a byte now and then for ever.
    timer = threading.Timer(seconds, cut_off)
    timer.daemon = True
    timer.start()
    connection = http.client.HTTPConnection(host, port)
    try:
        connected.settimeout(seconds)
        if encrypted:
            tls = context or ssl.create_default_context()
            # Without a handshake at first, so that `cut_off` can end the handshake, too.
            connected = tls.wrap_socket(connected, server_hostname=host, do_handshake_on_connect=False)
            if overdue.is_set():
                raise TimeoutError
            connected.do_handshake()
        connection.sock = connected
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", path, body, {**headers, "Connection": "close"})
        answer = connection.getresponse()
        answer.read(MAX_ANSWER)
        if overdue.is_set():
            raise TimeoutError
        return answer.status
    except (OSError, http.client.HTTPException):
        if overdue.is_set():
            raise TimeoutError(f"no whole answer within {seconds:g} s") from None
        raise
    finally:
        timer.cancel()
        connection.close()
        connected.close()
