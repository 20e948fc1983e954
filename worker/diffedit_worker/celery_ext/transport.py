"""kombu's transport for Redis, but a message that no task can be made of is dropped.

kombu and Celery trust the envelope of a message. Bytes that are no JSON, or JSON of another form, end the worker, and
some go back into the queue as it ends, for the next one.
"""

import logging
from queue import Empty

import redis
from celery.worker.state import reserved_requests, task_ready
from kombu.transport import redis as kombu_redis

log = logging.getLogger(__name__)


class Transport(kombu_redis.Transport):  # type: ignore[misc]
    def on_readable(self, fileno: int) -> None:
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
            # Not its text, which may quote the message.
            log.error("a message that is no Celery message is dropped (%s)", type(error).__name__)
            for tag in set(channel.qos._delivered) - unacknowledged:
                channel.qos.ack(tag)
            for request in set(reserved_requests) - reserved:
                task_ready(request)
