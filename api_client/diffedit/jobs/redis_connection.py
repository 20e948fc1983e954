"""redis-py's connections, except for what follows.

- They have a deadline.
- A refused command is an outage. A server with a full disk, one that has become a replica, or one that a script blocks:
  it answers and helps nobody. Such an answer becomes a `ConnectionError`, and the connection is closed. The next
  attempt connects to whichever server is the primary by then.
- They can ask sentinels which server that is, each time they connect. redis-py's own sentinel connections do not ask
  when they connect again within a command, and they keep the answer that a command left unread after its timeout.
- A server that cannot serve is refused with the reason as soon as it is connected.
- They do not send CLIENT SETINFO, which Redis 7.0 does not know. They ask for no notices of maintenance: with these,
  redis-py does not notice that an answer was left unread.
"""

from typing import Any
from urllib.parse import urlsplit

import redis
from redis.exceptions import ClusterDownError, TryAgainError
from redis.maint_notifications import MaintNotificationsConfig
from redis.utils import str_if_bytes

from diffedit.deadline import seconds_left
from diffedit.redis_url import Sentinels

SOCKET_TIMEOUT = 10.0
"""Seconds to wait for one answer."""
CONNECT_TIMEOUT = 5.0
"""Seconds to wait for a connection."""
SENTINEL_TIMEOUT = 2.0
"""Seconds to wait for one sentinel. Then the next one is asked."""
OLDEST_REDIS = 7
"""Our scripts declare flags (`#!lua flags=`)."""
REFUSALS: tuple[type[redis.ResponseError], ...] = (redis.ReadOnlyError, ClusterDownError, TryAgainError)
_REFUSING_WORDS = ("MISCONF ", "NOREPLICAS ", "BUSY ", "UNBLOCKED ")
"""How further refusals begin. redis-py has no classes for them."""


class ServerRefuses(redis.ConnectionError):
    """The server answers, but carries out no command, or none that writes."""


class UnusableServer(redis.RedisError):
    """The server is of the wrong kind: too old, of a cluster, or a sentinel. No further attempt helps."""


class Primary:
    """The primary that sentinels name.

    Attributes:
        address: host and port as they were found the last time, or None.
    """

    def __init__(self, sentinels: Sentinels) -> None:
        self._urls = sentinels.urls
        self._name = sentinels.primary
        self.address: tuple[str, int] | None = None

    def find(self) -> tuple[str, int]:
        """Ask one sentinel after the other, and begin the next time with the one that answered.

        Raises:
            redis.ConnectionError: none of them names a primary.
        """
        problems = []
        for url in self._urls:
            try:
                found = self._ask(url)
            except redis.RedisError as error:
                problem = str(error)
            else:
                if found:
                    self._urls = (url, *(other for other in self._urls if other != url))
                    self.address = found
                    return found
                problem = "knows no primary of this name"
            problems.append(f"{urlsplit(url).netloc.rpartition('@')[2]}: {problem}")
        raise redis.ConnectionError(f"no sentinel names the primary {self._name!r} ({'; '.join(problems)})")

    def _ask(self, url: str) -> tuple[str, int] | None:
        pool = redis.ConnectionPool.from_url(
            url,
            connection_class=connection_class(url),
            protocol=2,
            decode_responses=True,
            socket_timeout=SENTINEL_TIMEOUT,
        )
        with redis.Redis.from_pool(pool) as sentinel:
            address: tuple[str, int] | None = sentinel.sentinel_get_master_addr_by_name(self._name)
            return address


class _Bounded:
    """For a class of redis-py's connections. `refusals` are the errors that are an outage."""

    refusals = REFUSALS

    def __init__(self, *, primary: Primary | None = None, **options: Any) -> None:
        self._primary = primary
        super().__init__(**{**options, "driver_info": None})

    def connect(self) -> None:
        """Connect, if there is no connection, or if it leads to a server that is no longer the primary."""
        if self._sock and self._primary and self._primary.address != (self.host, self.port):  # type: ignore[attr-defined]
            self.disconnect()  # type: ignore[attr-defined]
        super().connect()  # type: ignore[misc]

    def _connect(self) -> Any:
        if self._primary:
            self.host, self.port = self._primary.find()
        limit = min(CONNECT_TIMEOUT, self.socket_timeout)  # type: ignore[attr-defined]
        self.socket_connect_timeout: Any = seconds_left(limit)
        return super()._connect()  # type: ignore[misc]

    def on_connect_check_health(self, check_health: bool = True) -> None:
        try:
            super().on_connect_check_health(check_health)  # type: ignore[misc]
        except redis.ResponseError as error:
            if "unknown command" in str(error) and "HELLO" in str(error):
                raise UnusableServer(_too_old("this server")) from error
            raise
        check_server(self.handshake_metadata or {})  # type: ignore[attr-defined]

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


def connection_class(url: str) -> type[redis.Connection]:
    return SSLConnection if url.startswith("rediss:") else Connection


def without_maintenance_notices() -> dict[str, Any]:
    """Return the option of a pool."""
    return {"maint_notifications_config": MaintNotificationsConfig(enabled=False)}


def check_server(hello: dict[Any, Any]) -> None:
    """Raise UnusableServer if a server that answers HELLO with this cannot serve."""
    known = {str_if_bytes(name): str_if_bytes(value) for name, value in hello.items()}
    version, mode = str(known.get("version", "")), known.get("mode")
    major = version.partition(".")[0]
    if mode == "sentinel":
        raise UnusableServer("this is a sentinel; the URL for it is redis+sentinel://host:port/NAME/db")
    if major.isdecimal() and int(major) < OLDEST_REDIS:
        raise UnusableServer(_too_old(f"Redis {version}"))
    if mode == "cluster":
        raise UnusableServer(
            "this server is in cluster mode, where scripts cannot change several keys at once; "
            "use one server, or one with replicas and sentinels"
        )


def _too_old(server: str) -> str:
    return f"{server} is too old; Redis {OLDEST_REDIS} or newer, or Valkey, is needed"
