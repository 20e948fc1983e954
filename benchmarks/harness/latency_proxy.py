"""A TCP proxy that adds latency to the requests to a server."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

_CHUNK = 2**16


@contextmanager
def latency_proxy(url: str, seconds: float) -> Iterator[str]:
    """Run a proxy for the server at `url` that delays each request by `seconds`. Yield the URL of the proxy."""
    server = urlsplit(url)
    assert server.hostname and server.port
    with asyncio.Runner() as runner:
        listener = runner.run(_listen(server.hostname, server.port, seconds))
        loop = runner.get_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        try:
            yield "http://{}:{}".format(*listener.sockets[0].getsockname())
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            listener.close()


async def _listen(host: str, port: int, seconds: float) -> asyncio.Server:
    async def connect(client_reader: asyncio.StreamReader, client_writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(host, port)
        # The handler is cancelled at the end; the streams of Python 3.11 report a cancelled handler as a failure.
        with suppress(OSError, asyncio.CancelledError):
            await asyncio.gather(
                _forward(client_reader, server_writer, seconds), _forward(server_reader, client_writer, 0)
            )
        for writer in (client_writer, server_writer):
            writer.close()

    return await asyncio.start_server(connect, "127.0.0.1", 0)


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    """Write everything that is read, `seconds` later. Any number of chunks may be on their way."""
    now = asyncio.get_running_loop().time
    delayed: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def write_delayed() -> None:
        data = b"-"
        while data:
            due, data = await delayed.get()
            await asyncio.sleep(due - now())
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    async with asyncio.TaskGroup() as group:
        group.create_task(write_delayed())
        data = b"-"
        while data:
            data = await reader.read(_CHUNK)
            await delayed.put((now() + seconds, data))
