"""kombu's transport for Redis, except that it drops malformed messages.

kombu and Celery trust the envelope of a message. Bytes that are not JSON, or JSON of another form, would end the
worker. Some of them would return to the queue as it ends, for the next worker.
"""

import logging
from queue import Empty

import redis
from celery.worker.state import reserved_requests, task_ready
from kombu.transport import redis as kombu_redis

log = logging.getLogger(__name__)


class Transport(kombu_redis.Transport):  # type: ignore[misc]
    def on_readable(self, fileno: int) -> None:
        """Receive a message. If it is malformed, acknowledge it and forget the task that Celery began to make of it."""
        channel, _ = self.cycle._fd_to_chan.get(fileno, (None, None))
        unacknowledged = set(channel.qos._delivered) if channel else set()
        reserved = set(reserved_requests)
        try:
            super().on_readable(fileno)
        except (Empty, OSError):
            raise
        except Exception as error:
            if isinstance(error, redis.RedisError) and not isinstance(error, redis.DataError):
                raise
            # The error's text may quote the message, so it is not logged.
            log.error("dropping a malformed Celery message (%s)", type(error).__name__)
            for tag in set(channel.qos._delivered) - unacknowledged:
                channel.qos.ack(tag)
            for request in set(reserved_requests) - reserved:
                task_ready(request)
