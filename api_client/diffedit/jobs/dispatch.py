"""The Celery application of a worker, as far as it concerns the broker. Nobody sends jobs through it."""

import ssl
from typing import TYPE_CHECKING

from diffedit.jobs.redis_connection import CONNECT_TIMEOUT
from diffedit.settings import Settings

if TYPE_CHECKING:
    from celery import Celery


def celery_app(settings: Settings) -> "Celery":
    """Return a Celery application whose broker is the Redis of these settings."""
    # Importing Celery takes 0.16 s, and a client never needs it.
    from diffedit.jobs.independent_celery import IndependentCelery

    url = settings.redis
    app = IndependentCelery("diffedit", broker=url.server)
    app.conf.update(
        broker_transport="diffedit.jobs.transport:Transport",
        # By default kombu accepts any certificate. Options in the URL (?ssl_...) still apply.
        broker_use_ssl={"ssl_cert_reqs": ssl.CERT_REQUIRED} if url.tls else None,
        # For the answers to remote commands.
        broker_pool_limit=2,
        # JSON only: a worker must never unpickle what a queue holds.
        task_serializer="json",
        accept_content=["json"],
        # The job's record is the one truth about a job, so there is no result backend.
        task_ignore_result=True,
        broker_transport_options={
            # Without these a half-open socket blocks a worker for minutes.
            "socket_timeout": 30,
            "socket_connect_timeout": CONNECT_TIMEOUT,
            "socket_keepalive": True,
            "health_check_interval": 25,
            # A worker serves its queues strictly in the order in which they are named.
            "queue_order_strategy": "priority",
            "sentinels": url.sentinels,
        },
    )
    return app
