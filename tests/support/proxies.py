"""An HTTP proxy that does to a server what networks and overload do: it is gone, slow, failing, cuts things short.

Requests pass as they were signed, Host included: rclone accepts a signature for whichever host was asked.
"""

import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit


class Exchange(BaseHTTPRequestHandler):
    """One request and what becomes of it: a method for each fault."""

    protocol_version = "HTTP/1.1"
    server: "_Server"

    def act(self) -> None:
        try:
            self.server.fault_of(self.command, self.path)(self)
        except OSError:  # one of the two ends is gone
            self.is_reset()

    do_GET = do_HEAD = do_PUT = do_DELETE = act

    def passes(self, upto: int | None = None) -> None:
        """The server's answer comes; `upto` so many bytes of the body that it promises."""
        with closing(self._send_on(self._body())) as upstream:
            answer = upstream.getresponse()
            body = answer.read()
        headers = {name: value for name, value in answer.headers.items() if name != "Transfer-Encoding"}
        self._answer(answer.status, {"Content-Length": str(len(body)), **headers}, body[:upto])

    def is_slow(self, seconds: float) -> None:
        time.sleep(seconds)
        self.passes()

    def fails(self, status: int, code: str = "InternalError") -> None:
        self._body()
        error = f"<Error><Code>{code}</Code></Error>".encode()
        self._answer(status, {"Content-Length": str(len(error))}, b"" if self.command == "HEAD" else error)

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
        """The server has so many bytes of what the request promises when both ends lose the connection."""
        self._send_on(self.rfile.read(after)).close()
        self.is_reset()

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _send_on(self, body: bytes) -> http.client.HTTPConnection:
        upstream = http.client.HTTPConnection(self.server.upstream, timeout=30)
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name != "Expect":  # the client has been told to go on
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
        self.upstream, self.fault_of = upstream, fault_of
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def shutdown_request(self, request: socket.socket) -> None:
        self.close_request(request)  # without the FIN that would go before a RST


class FaultProxy:
    """In front of the server at `upstream` (a URL), while its context lasts.

    Attributes:
        pending: the faults that the next requests of a method, for paths that hold some text, will meet, in this order.
    """

    def __init__(self, upstream: str) -> None:
        self._upstream = urlsplit(upstream).netloc
        self._lock = threading.Lock()
        self.pending: list[tuple[str, str, Fault]] = []
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
        """The next `times` requests of this method with `where` in their path meet a fault, a method of `Exchange`."""
        self.pending += [(method, where, partial(fault, **how))] * times

    def down(self) -> None:
        """Connections are refused, and those that are open are lost."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
            # A client that keeps calling a free port may be given it for its own end, and answer itself.
            self._placeholder = _bound(self._address)

    def up(self) -> None:
        """As if nothing had been."""
        self.pending.clear()
        if not self._server:
            self._placeholder.close()
            self._server = _Server(self._address, self._upstream, self._next_fault)

    def _next_fault(self, method: str, path: str) -> Fault:
        if not self._server:
            return Exchange.is_reset
        with self._lock:
            for index, (whose, where, fault) in enumerate(self.pending):
                if whose == method and where in path:
                    del self.pending[index]
                    return fault
        return Exchange.passes


def _bound(address: tuple[str, int]) -> socket.socket:
    """Nobody can listen at or call from this address, and who calls it is refused."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(address)
    return holder
