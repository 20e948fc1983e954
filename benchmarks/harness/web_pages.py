"""Pages that follow edits over HTTP as a browser does: each connects again when its stream ends before the edit."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

ENDS = ("succeeded", "failed", "cancelled", "expired")
NO_CONTENT, OK = 204, 200
RECONNECT = 2.0
"""Seconds after which a page connects again, as the server tells browsers."""


@dataclass
class Page:
    """A page that follows an edit.

    Attributes:
        url: of the server.
        headers: with which it asks.
        edit: the edit, as the server has shown it.
        state: the last state that it has seen.
        connections: how often it has connected.
    """

    url: str
    headers: Mapping[str, str]
    edit: dict[str, Any]
    state: str = ""
    connections: int = 0
    _last_event: str = ""

    async def follow(self) -> None:
        """Follow the edit until it has ended."""
        while self.state not in ENDS:
            if self.connections:
                await asyncio.sleep(RECONNECT)
            self.connections += 1
            try:
                if await self._stream() == NO_CONTENT:
                    return
            except (OSError, EOFError):
                continue

    async def _stream(self) -> int:
        """Read one stream until it ends. Return the status of the answer."""
        # A plain socket, so that the reader costs little.
        place = urlsplit(self.url)
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        try:
            seen = {"Last-Event-ID": self._last_event} if self._last_event else {}
            fields = {"Host": place.netloc, "Connection": "close", **self.headers, **seen}
            lines = [f"GET {self.edit['links']['events']} HTTP/1.1", *map(": ".join, fields.items())]
            writer.write("\r\n".join([*lines, "", ""]).encode())
            status = int((await reader.readline()).split()[1])
            if status == OK:
                async for name, value in _fields(reader):
                    if name == "id":
                        self._last_event = value
                    elif name == "data":
                        # A problem, whose state is none, comes without an id.
                        self.state = value.partition('"state":"')[2].partition('"')[0] or self.state
            return status
        finally:
            writer.close()


async def _fields(reader: asyncio.StreamReader) -> AsyncIterator[tuple[str, str]]:
    """Yield the fields of all events."""
    while line := await reader.readline():
        name, colon, value = line.decode().rstrip().partition(": ")
        if colon:
            yield name, value
