"""A small HTTP server for programs that are no web servers: a worker and the exporter serve metrics and probes by it.

It answers GET and HEAD, each request in a thread of its own, and reads nothing but the path and the `Accept` header.
"""

import logging
import socket
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from diffedit.errors import CannotListen
from diffedit.listening import check_address

log = logging.getLogger(__name__)

REQUEST_TIMEOUT = 10.0
"""Seconds in which a client has to send its request and take the answer."""
ALL_ADDRESSES = "0.0.0.0"  # noqa: S104 # Prometheus and the kubelet come from other hosts
TEXT = "text/plain; charset=utf-8"


class Answer(NamedTuple):
    """What is sent back: an HTTP status, the bytes of the body, and their media type."""

    status: int
    body: bytes
    media_type: str = TEXT


Page: TypeAlias = Callable[[str], Answer]
"""Answers a request, given its `Accept` header. It may be called in any thread."""


def text_answer(text: str, status: int = HTTPStatus.OK) -> Answer:
    """Return an answer of one or more lines of text."""
    return Answer(status, f"{text}\n".encode())


class StatusServer:
    """Serves pages, by path, until the process ends or `stop` is called.

    Attributes:
        port: where it listens: the one that was asked for, or a free one if that was 0.
    """

    def __init__(
        self,
        pages: Mapping[str, Page],
        *,
        host: str = ALL_ADDRESSES,
        port: int,
        host_setting: str = "--host",
        port_setting: str = "--port",
    ) -> None:
        """Listen, but answer nothing before `start`. The settings are what an error tells to change.

        Raises:
            CannotListen: the port is taken, or the address is not one of this machine.
        """
        check_address(host, port, host_setting, port_setting)
        try:
            self._server = _server(pages, host, port)
        except OSError as error:  # taken since it was checked
            raise CannotListen(f"cannot listen on port {port}: {error.strerror}; change {port_setting}") from None
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="status-server", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop listening. Requests that are being answered may be cut off."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()


def _server(pages: Mapping[str, Page], host: str, port: int) -> ThreadingHTTPServer:
    address: Any
    family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]

    class Server(ThreadingHTTPServer):
        address_family = family
        daemon_threads = True
        block_on_close = False

        def server_bind(self) -> None:
            TCPServer.server_bind(self)  # HTTPServer's would ask the name service for the name of this host

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Called when a client breaks the connection or is too slow. That is not worth a traceback."""
            log.debug("a request for metrics or a probe was broken off", exc_info=True)

    class Handler(_Handler):
        served = pages

    return Server(address[:2], Handler)


class _Handler(BaseHTTPRequestHandler):
    served: Mapping[str, Page]
    timeout = REQUEST_TIMEOUT
    server_version, sys_version = "diffedit", ""

    def do_GET(self) -> None:
        self._send(self._answer())

    do_HEAD = do_GET

    def _answer(self) -> Answer:
        page = self.served.get(urlsplit(self.path).path)
        if page is None:
            return text_answer("\n".join(sorted(self.served)), HTTPStatus.NOT_FOUND)
        try:
            return page(self.headers.get("Accept") or "")
        except Exception:
            log.exception("a page of the status server could not be made")
            return text_answer("internal error; the log says more", HTTPStatus.INTERNAL_SERVER_ERROR)

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.media_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log no requests: there is one every few seconds."""
