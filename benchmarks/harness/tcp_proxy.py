"""A TCP proxy with which the network to a server is slow, or swallows what is sent."""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Self
from urllib.parse import urlsplit

_CHUNK = 2**16


def address_of(url: str) -> tuple[str, int]:
    """Return the host and the port of a URL that names both."""
    parts = urlsplit(url)
    assert parts.hostname and parts.port
    return parts.hostname, parts.port


class TcpProxy:
    """Passes bytes to and from a server, as long as its context lasts.

    Attributes:
        port: where the proxy listens, on 127.0.0.1.
    """

    def __init__(self, server: tuple[str, int], tls: ssl.SSLContext | None = None) -> None:
        """With `tls`, the proxy accepts TLS connections, and speaks plainly to the server."""
        self._server = server
        self._tls = tls
        self._delay = 0.0
        self._clients: set[asyncio.StreamWriter] = set()
        self._runner = asyncio.Runner()
        self._loop = self._runner.get_loop()
        self._passing = asyncio.Event()
        self._passing.set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._listener = self._loop.run_until_complete(
            asyncio.start_server(self._connect, "127.0.0.1", 0, ssl=self._tls)
        )
        self.port: int = self._listener.sockets[0].getsockname()[1]
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._listener.close()
        self._runner.close()

    @contextmanager
    def delaying(self, seconds: float) -> Iterator[None]:
        """Pass on what clients send `seconds` later, while the context lasts."""
        self._delay = seconds
        try:
            yield
        finally:
            self._delay = 0.0

    @contextmanager
    def swallowing(self) -> Iterator[None]:
        """Pass nothing on while the context lasts. What is sent meanwhile arrives afterwards, as TCP repeats it."""
        self._loop.call_soon_threadsafe(self._passing.clear)
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(self._passing.set)

    def drop_connections(self) -> None:
        """Close the connections that are open."""
        for writer in list(self._clients):
            self._loop.call_soon_threadsafe(writer.close)

    async def _connect(self, client_reader: asyncio.StreamReader, client_writer: asyncio.StreamWriter) -> None:
        self._clients.add(client_writer)
        # The handler is cancelled at the end; the streams of Python 3.11 report a cancelled handler as a failure.
        with suppress(OSError, asyncio.CancelledError):
            server_reader, server_writer = await asyncio.open_connection(*self._server)
            with suppress(OSError, asyncio.CancelledError):
                await asyncio.gather(
                    self._forward(client_reader, server_writer, delayed=True),
                    self._forward(server_reader, client_writer, delayed=False),
                )
            server_writer.close()
        client_writer.close()
        self._clients.discard(client_writer)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, delayed: bool) -> None:
        """Write everything that is read, perhaps later. Any number of chunks may be on their way."""
        now = self._loop.time
        underway: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def write() -> None:
            data = b"-"
            while data:
                due, data = await underway.get()
                await asyncio.sleep(due - now())
                await self._passing.wait()
                writer.write(data)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()
            else:
                writer.close()

        async def read() -> None:
            data = b"-"
            while data:
                data = await reader.read(_CHUNK)
                await underway.put((now() + (self._delay if delayed else 0.0), data))

        await asyncio.gather(read(), write())
