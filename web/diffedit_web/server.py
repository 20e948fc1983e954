"""`diffedit serve`: the application in uvicorn, in this process."""

import ipaddress
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvicorn

from diffedit import AsyncClient, Client, InvalidRequest
from diffedit.api_keys import hidden_keys
from diffedit.listening import check_address
from diffedit.logs import LogFormat, log_to_stderr
from diffedit.trace_export import export_traces
from diffedit_web.app import create_app
from diffedit_web.connections import BoundedConnection
from diffedit_web.gate import MAX_HEADER_BYTES

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]", "::1")
SHUTDOWN = 10
"""Seconds in which requests may end when the server shuts down. Streams of events end at once."""
KEEP_ALIVE = 20
"""Seconds for which a connection without a request is kept."""


def serve(
    client: Client,
    *,
    host: str,
    port: int,
    open_to_all: bool = False,
    insecure: bool = False,
    links: bool = True,
    proxies: Sequence[str] = (),
    samples: Path | None = None,
    log_level: str = "info",
    log_format: LogFormat = "text",
) -> None:
    """Run the server until an interrupt or SIGTERM.

    Args:
        client: whose connections are used.
        host, port: where to listen.
        open_to_all: no keys; only on loopback, unless `insecure`.
        insecure: no keys for whoever reaches the address.
        links: whether pictures are given as links to the bucket; if not, this server passes the bytes on.
        proxies: the addresses of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.
        samples: a directory with pictures that the page offers, and their `scenes.json`.
        log_level: uvicorn's.
        log_format: "text", or "json" for one object a line.

    Raises:
        InvalidRequest: without keys, the address is not loopback.
        CannotListen: the port is taken, or the address is not one of this machine.
    """
    local = is_loopback(host)
    if open_to_all and not (local or insecure):
        raise InvalidRequest(
            f"--open: whoever reaches {host} could see and make edits; listen on 127.0.0.1, or add --insecure"
        )
    # Asked first, because uvicorn would end the program without an error that says what to do.
    check_address(host, port)
    hosts = LOOPBACK_NAMES if open_to_all and local else ()
    export_traces("diffedit-web")
    over = AsyncClient.over(client)
    app = create_app(over, open_to_all=open_to_all, links=links, hosts=hosts, samples=samples)
    logging.getLogger("uvicorn.access").addFilter(without_keys)
    log_options: dict[str, Any] = {}
    if log_format == "json":
        log_to_stderr(log_format)
        log_options = {"log_config": None}  # its loggers pass their lines on to that one
    uvicorn.run(
        app,
        http=BoundedConnection,
        host=host,
        port=port,
        log_level=log_level,
        **log_options,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=",".join(proxies),
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=SHUTDOWN,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
    )


def without_keys(record: logging.LogRecord) -> bool:
    """Replace API keys that somebody sent in a path or a query, where no key belongs. A filter of the access log."""
    if isinstance(record.args, tuple):
        record.args = tuple(hidden_keys(each) if isinstance(each, str) else each for each in record.args)
    return True


def is_loopback(host: str) -> bool:
    """Return whether only programs of this machine reach a server that listens on this host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
