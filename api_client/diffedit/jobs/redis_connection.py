"""redis-py's connections, except that they have a deadline, and that a refused command is an outage.

A server with a full disk, one that has become a replica, or one that a script blocks: it answers and helps nobody. Such
an answer becomes a `ConnectionError`, and the connection is closed. The next attempt connects to whichever server is
the primary by then.
"""

from typing import Any

import redis
from redis.exceptions import ClusterDownError, TryAgainError

from diffedit.deadline import seconds_left

SOCKET_TIMEOUT = 10.0
"""Seconds to wait for one answer."""
CONNECT_TIMEOUT = 5.0
"""Seconds to wait for a connection."""
REFUSALS: tuple[type[redis.ResponseError], ...] = (redis.ReadOnlyError, ClusterDownError, TryAgainError)
_REFUSING_WORDS = ("MISCONF ", "NOREPLICAS ", "BUSY ", "UNBLOCKED ")
"""How further refusals begin. redis-py has no classes for them."""


class ServerRefuses(redis.ConnectionError):
    """The server answers, but carries out no command, or none that writes."""


class _Bounded:
    """For a class of redis-py's connections. `refusals` are the errors that are an outage."""

    refusals = REFUSALS

    def _connect(self) -> Any:
        self.socket_connect_timeout: Any = seconds_left(CONNECT_TIMEOUT)
        return super()._connect()  # type: ignore[misc]

    def read_response(self, *args: Any, **options: Any) -> Any:
        if sock := self._sock:  # type: ignore[attr-defined]
            sock.settimeout(seconds_left(self.socket_timeout))  # type: ignore[attr-defined]
        try:
            return super().read_response(*args, **options)  # type: ignore[misc]
        except redis.ResponseError as error:
            if isinstance(error, self.refusals) or str(error).startswith(_REFUSING_WORDS):
                self.disconnect()  # type: ignore[attr-defined]
                raise ServerRefuses(f"{type(error).__name__}: {error}") from error
            raise


class Connection(_Bounded, redis.Connection):
    """A connection to redis://."""


class SSLConnection(_Bounded, redis.SSLConnection):
    """A connection to rediss://."""
