"""kombu's transport for Redis, over our connections, and without the list of unacknowledged messages.

kombu would write each message that it receives into a second place, and delete it there when it is acknowledged, which
is at once (`task_acks_late`). Both cost a round trip. What that would save, a message that a dying worker has in hand,
the job's record saves sooner (`JobStore.jobs_without_message`).
"""

from typing import Any

from kombu.transport import redis as kombu_redis
from kombu.utils.json import dumps

from diffedit.jobs import redis_connection
from diffedit.redis_url import Sentinels
from diffedit.retries import MESSAGE_REDIS_POLICY, BoundedRetry


class Channel(kombu_redis.Channel):  # type: ignore[misc]
    ack_emulation = False
    connection_class = redis_connection.Connection
    connection_class_ssl = redis_connection.SSLConnection
    from_transport_options = (*kombu_redis.Channel.from_transport_options, "sentinels")
    sentinels: Sentinels | None = None

    def _restore(self, message: Any, leftmost: bool = False) -> None:
        """Return a message that was received and not acknowledged, because the channel closes or the worker rejects it.

        It is the last one then, like every job that returns to its queue. The first place would take RPUSH, which the
        Redis user of a worker needs for nothing else.
        """
        with self.conn_or_acquire() as client:
            client.lpush(message.delivery_info["routing_key"], dumps(message._raw))

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
