"""A server that is far away: a TCP proxy in front of it, through which whatever is asked arrives late."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

_CHUNK = 2**16


@contextmanager
def distant(url: str, seconds: float) -> Iterator[str]:
    """The URL under which the server at `url` answers `seconds` later than it would, while the context lasts."""
    server = urlsplit(url)
    assert server.hostname and server.port
    with asyncio.Runner() as runner:
        listening = runner.run(_listen(server.hostname, server.port, seconds))
        loop = runner.get_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        try:
            yield "http://{}:{}".format(*listening.sockets[0].getsockname())
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            listening.close()


async def _listen(host: str, port: int, seconds: float) -> asyncio.Server:
    async def meet(asker: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        answerer, questions = await asyncio.open_connection(host, port)
        # Cancelled at the end; streams of Python 3.11 report a handler that stays so as a failure.
        with suppress(OSError, asyncio.CancelledError):
            await asyncio.gather(_carry(asker, questions, seconds), _carry(answerer, answers, 0))
        for writer in (questions, answers):
            writer.close()

    return await asyncio.start_server(meet, "127.0.0.1", 0)


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    """All that is read is written `seconds` later. Much may be under way at once: it is a long line, not a thin one."""
    now = asyncio.get_running_loop().time
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def arrive() -> None:
        data = b"-"
        while data:
            due, data = await under_way.get()
            await asyncio.sleep(due - now())
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    async with asyncio.TaskGroup() as group:
        group.create_task(arrive())
        data = b"-"
        while data:
            data = await reader.read(_CHUNK)
            await under_way.put((now() + seconds, data))
