"""A Celery application with connections of its own.

By default all Celery applications of a process share kombu's pools and one limit for all of them. A client would then
change the limit of the program's own Celery application, could not hold its own limit, and could not close its
connections without closing those of others.
"""

import threading
from typing import Any

from celery import Celery
from celery.app.amqp import AMQP
from kombu.pools import ProducerPool


class _Messages(AMQP):  # type: ignore[misc]
    _producer_pool: Any = None

    @property
    def producer_pool(self) -> Any:
        with self.app.pool_lock:
            if self._producer_pool is None:
                pool = self.app.pool
                self._producer_pool = ProducerPool(pool, limit=pool.limit)
            return self._producer_pool


class IndependentCelery(Celery):  # type: ignore[misc]
    """Celery, but `broker_pool_limit` holds for this application alone.

    Celery itself forgets both pools in a process that was forked.
    """

    amqp_cls = _Messages
    _pool: Any = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.pool_lock = threading.RLock()
        super().__init__(*args, **kwargs)

    @property
    def pool(self) -> Any:
        with self.pool_lock:
            if self._pool is None:
                self._ensure_after_fork()
                self._pool = self.connection_for_write().Pool(limit=self.conf.broker_pool_limit)
            return self._pool
