"""kombu's transport for Redis, over our connections."""

from typing import Any

from kombu.transport import redis as kombu_redis

from diffedit.jobs import redis_connection
from diffedit.retries import MESSAGE_REDIS_POLICY, BoundedRetry


class Channel(kombu_redis.Channel):  # type: ignore[misc]
    connection_class = redis_connection.Connection
    connection_class_ssl = redis_connection.SSLConnection

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        return {**super()._connparams(asynchronous), "retry": BoundedRetry(MESSAGE_REDIS_POLICY)}


class Transport(kombu_redis.Transport):  # type: ignore[misc]
    Channel = Channel
