"""Our transport for Redis, except that it drops malformed messages, and that a full memory is an outage, too.

kombu and Celery trust the envelope of a message. Bytes that are not JSON, or JSON of another form, would end the
worker. Some of them would return to the queue as it ends, for the next worker.
"""

import logging
import time
from queue import Empty
from typing import Any

import redis
from celery.worker.state import reserved_requests, task_ready
from kombu.transport.virtual import Message

from diffedit.jobs import keys, redis_connection, transport
from diffedit.jobs.redis_server import is_wrong_type

log = logging.getLogger(__name__)


class _Connection(redis_connection.Connection):
    refusals = (*redis_connection.REFUSALS, redis.OutOfMemoryError)


class _SSLConnection(redis_connection.SSLConnection):
    refusals = (*redis_connection.REFUSALS, redis.OutOfMemoryError)


class _Message(Message):  # type: ignore[misc]
    def __init__(self, payload: Any, channel: Any = None, **options: Any) -> None:
        """Accept no compressed body: nobody here sends one, and 2 KB of bzip2 become gigabytes."""
        headers = payload.get("headers") if isinstance(payload, dict) else None
        if isinstance(headers, dict) and headers.get("compression"):
            raise ValueError("a compressed message")
        super().__init__(payload, channel, **options)


class _Channel(transport.Channel):
    Message = _Message
    connection_class = _Connection
    connection_class_ssl = _SSLConnection

    def _size(self, queue: str) -> int:
        """Return the length of a queue, as its declaration does. What is no list is noted and deleted."""
        try:
            return int(super()._size(queue))
        except redis.ResponseError as error:
            if "WRONGTYPE" not in str(error) or not queue.startswith(keys.QUEUE):
                raise
            log.error("the queue %s was no list; what somebody had put in its place is deleted", queue)
            self.client.zadd(keys.DAMAGED, {queue: time.time()})
            self.client.delete(queue)
            return 0


class Transport(transport.Transport):
    Channel = _Channel

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
            if is_wrong_type(error):
                # Celery would end the worker. It connects again instead, and declares its queues (`_Channel._size`).
                raise redis.ConnectionError(f"a queue is no list: {error}") from error
            if isinstance(error, redis.RedisError) and not isinstance(error, redis.DataError):
                raise
            # The error's text may quote the message, so it is not logged.
            log.error("dropping a malformed Celery message (%s)", type(error).__name__)
            for tag in set(channel.qos._delivered) - unacknowledged:
                channel.qos.ack(tag)
            for request in set(reserved_requests) - reserved:
                task_ready(request)
