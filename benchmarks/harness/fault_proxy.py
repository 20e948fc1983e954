"""An HTTP proxy in front of a server that injects faults.

It passes requests on as they were signed, with their Host header: rclone accepts a signature for any host.
"""

import http.client
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Container, Iterator
from contextlib import closing, contextmanager
from email.utils import formatdate
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

METHODS = ("GET", "HEAD", "PUT", "DELETE")


class Exchange(BaseHTTPRequestHandler):
    """One HTTP request; each public method answers it in one way, most of them with a fault."""

    protocol_version = "HTTP/1.1"
    server: "_Server"

    def act(self) -> None:
        self.server.peers.add(self.client_address)
        try:
            self.server.fault_of(self.command, self.path)(self)
        except (OSError, http.client.HTTPException):  # client or server has closed its connection
            self.is_reset()

    def log_message(self, *_: object) -> None:
        """Log nothing. Forked clients that share a connection send what is no HTTP."""

    do_GET = do_HEAD = do_PUT = do_DELETE = act

    def passes(self, upto: int | None = None) -> None:
        """Send the server's answer, but only the first `upto` bytes of its body."""
        status, headers, body = self._upstreams_answer()
        self._answer(status, headers, body[:upto])

    def is_slow(self, seconds: float) -> None:
        time.sleep(seconds)
        self.passes()

    def fails(self, status: int, code: str = "InternalError") -> None:
        self._body()
        self._refuse(status, code, {})

    def redirects(self, region: str) -> None:
        """Answer as S3 does for a bucket in another region."""
        self._body()
        self._refuse(301, "PermanentRedirect", {"x-amz-bucket-region": region})

    def is_ahead(self, seconds: float) -> None:
        """Refuse as an S3 server does whose clock is so many seconds ahead of the client's."""
        self._body()
        self._refuse(403, "RequestTimeTooSkewed", {"Date": formatdate(time.time() + seconds, usegmt=True)})

    def hides_missing(self) -> None:
        """Answer 403 for a missing object, as S3 does if the caller may not list the bucket."""
        status, headers, body = self._upstreams_answer()
        if status == 404:
            self._refuse(403, "AccessDenied", {})
        else:
            self._answer(status, headers, body)

    def is_reset(self) -> None:
        # Closed like this, a connection ends with RST instead of FIN.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def answer_is_reset(self, after: int) -> None:
        self.passes(after)
        self.is_reset()

    def answer_is_short(self, after: int) -> None:
        self.passes(after)
        self.close_connection = True

    def upload_is_reset(self, after: int) -> None:
        """Send the server the first `after` bytes of the request's body, then reset both connections."""
        self._send_on(self.rfile.read(after)).close()
        self.is_reset()

    def _upstreams_answer(self) -> tuple[int, dict[str, str], bytes]:
        with closing(self._send_on(self._body())) as upstream:
            answer = upstream.getresponse()
            body = answer.read()
        headers = {name: value for name, value in answer.headers.items() if name != "Transfer-Encoding"}
        return answer.status, {"Content-Length": str(len(body)), **headers}, body

    def _refuse(self, status: int, code: str, headers: dict[str, str]) -> None:
        error = f"<Error><Code>{code}</Code></Error>".encode()
        self._answer(status, {"Content-Length": str(len(error)), **headers}, b"" if self.command == "HEAD" else error)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _send_on(self, body: bytes) -> http.client.HTTPConnection:
        upstream = http.client.HTTPConnection(self.server.upstream, timeout=30)
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name != "Expect":  # the proxy has already answered 100 Continue
                upstream.putheader(name, value)
        upstream.endheaders(body)
        return upstream

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


Fault = Callable[[Exchange], None]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], upstream: str, fault_of: Callable[[str, str], Fault]) -> None:
        super().__init__(address, Exchange)
        self.upstream, self.fault_of, self.peers = upstream, fault_of, set[tuple[str, int]]()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # a client may break its connection at any time
            super().handle_error(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.close_request(request)  # the default shuts the connection down first, and a FIN would go before the RST


class FaultProxy:
    """An HTTP proxy in front of the server at the URL `upstream`, as long as its context lasts.

    Attributes:
        upstream: the URL of the server.
        url: where the proxy listens.
        pending: the faults of the next requests, in this order: method, text in the path, fault.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self._lock = threading.Lock()
        self.pending: list[tuple[str, str, Fault]] = []
        self._standing: list[tuple[Container[str], Fault]] = []
        self._server: _Server | None = None
        self._placeholder = _bound(("127.0.0.1", 0))
        self._address = self._placeholder.getsockname()
        self.url = "http://{}:{}".format(*self._address)
        self.up()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.down()
        self._placeholder.close()

    def meets(
        self, method: str, fault: Callable[..., None], *, where: str = "", times: int = 1, **how: float | str
    ) -> None:
        """Inject `fault`, a method of `Exchange`, into the next `times` requests of this method to such a path."""
        self.pending += [(method, where, partial(fault, **how))] * times

    def peers_of(self, call: Callable[[], object]) -> set[tuple[str, int]]:
        """Make a call, and return the clients' ends of the connections over which requests came meanwhile."""
        assert self._server
        self._server.peers.clear()
        call()
        return set(self._server.peers)

    @contextmanager
    def always(
        self, fault: Callable[..., None], *, methods: Container[str] = METHODS, **how: float | str
    ) -> Iterator[None]:
        """Inject `fault` into every request of these methods while the context lasts."""
        rule = (methods, partial(fault, **how))
        self._standing.append(rule)
        try:
            yield
        finally:
            self._standing.remove(rule)

    def down(self) -> None:
        """Refuse new connections and drop those that are open."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
            # Keep the port: a client that calls a free port may get that very port for its own end of the connection.
            self._placeholder = _bound(self._address)

    def up(self) -> None:
        """Forget all pending faults and pass every request on."""
        self.pending.clear()
        if not self._server:
            self._placeholder.close()
            self._server = _Server(self._address, urlsplit(self.upstream).netloc, self._next_fault)

    def _next_fault(self, method: str, path: str) -> Fault:
        if not self._server:
            return Exchange.is_reset
        with self._lock:
            for index, (whose, where, fault) in enumerate(self.pending):
                if whose == method and where in path:
                    del self.pending[index]
                    return fault
        return next((fault for methods, fault in list(self._standing) if method in methods), Exchange.passes)


def _bound(address: tuple[str, int]) -> socket.socket:
    """Return a socket that reserves this address; it refuses connections, since it does not listen."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(address)
    return holder
