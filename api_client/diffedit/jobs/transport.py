"""kombu's transport for Redis, over our connections."""

from typing import Any

from kombu.transport import redis as kombu_redis

from diffedit.jobs import redis_connection
from diffedit.redis_url import Sentinels
from diffedit.retries import MESSAGE_REDIS_POLICY, BoundedRetry


class Channel(kombu_redis.Channel):  # type: ignore[misc]
    connection_class = redis_connection.Connection
    connection_class_ssl = redis_connection.SSLConnection
    from_transport_options = (*kombu_redis.Channel.from_transport_options, "sentinels")
    sentinels: Sentinels | None = None

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        return {
            **super()._connparams(asynchronous),
            **redis_connection.without_maintenance_notices(),
            "retry": BoundedRetry(MESSAGE_REDIS_POLICY),
            "primary": redis_connection.Primary(self.sentinels) if self.sentinels else None,
        }


class Transport(kombu_redis.Transport):  # type: ignore[misc]
    Channel = Channel
    # A worker waits for another server, as it does after a wrong password.
    connection_errors = (*kombu_redis.Transport.connection_errors, redis_connection.UnusableServer)
