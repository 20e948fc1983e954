"""Connections of `diffedit serve`: bounded in time where uvicorn is not, so that slow clients hold none for ever."""

import asyncio
import socket
import struct

from uvicorn.protocols.http.h11_impl import H11Protocol

SECONDS = 20.0
"""In which a client must send the whole header of its next request, or take something of the last answer."""
RESET = struct.pack("ii", 1, 0)
"""The option of a socket that drops at its end what it holds."""


class BoundedConnection(H11Protocol):
    """A connection that ends when its client sends or takes nothing useful for `SECONDS`.

    The time begins with the connection and with the end of each answer. It does not depend on what arrives, as
    uvicorn's own limit does, so that a header that comes byte by byte does not prolong it. While a request is answered
    there is no limit here: the body of a request and streams of events have limits of their own.
    """

    _timer: asyncio.TimerHandle | None = None
    _not_taken = 0
    """Bytes of answers that the client had not taken when this was last looked at."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._not_before()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer:
            self._timer.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        self._not_before()
        super().on_response_complete()

    def _not_before(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._not_taken = self.transport.get_write_buffer_size()
        self._timer = self.loop.call_later(SECONDS, self._end_unless_used)

    def _end_unless_used(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            return  # the end of this answer begins the time anew
        left = self.transport.get_write_buffer_size()
        if left and left < self._not_taken:
            self._not_before()
        elif left:
            # Otherwise the kernel would keep for minutes what it holds of the answer.
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self.transport.abort()  # `close` would wait until everything is taken
        else:
            self.timeout_keep_alive_handler()
