"""Proxies in front of a server: `FaultProxy` injects faults into HTTP, `TlsProxy` adds TLS to any protocol."""

import socket
import ssl
import threading
from contextlib import suppress

import trustme

from benchmarks.harness.fault_proxy import Exchange, FaultProxy

__all__ = ["Exchange", "FaultProxy", "TlsProxy"]


class TlsProxy:
    """Accepts TLS connections on a port of its own, and passes their plain bytes to and from a server.

    Attributes:
        port: where the proxy listens, on 127.0.0.1.
    """

    def __init__(self, certificate: trustme.LeafCert, server: tuple[str, int]) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        self._server = server
        self._listener = context.wrap_socket(socket.create_server(("127.0.0.1", 0)), server_side=True)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            # A client that does not accept the certificate closes the connection.
            with suppress(ssl.SSLError, ConnectionError):
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    @staticmethod
    def _pass_on(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError), source, sink:
            while data := source.recv(65536):
                sink.sendall(data)
