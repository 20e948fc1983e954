"""From a job to Celery: one task for each stage, sent to the queue of its profile, model group and lane."""

import ssl
from typing import TYPE_CHECKING, Any

from diffedit.contract.job import Job
from diffedit.contract.stages import Stage
from diffedit.deadline import deadline
from diffedit.errors import BrokerFull, BrokerUnavailable
from diffedit.jobs.redis_connection import CONNECT_TIMEOUT
from diffedit.retries import DECLARE_ATTEMPTS, PUBLISH_POLICY, PUBLISH_SECONDS, repeated
from diffedit.settings import Settings

if TYPE_CHECKING:
    from celery import Celery


def task_name(stage: Stage) -> str:
    return f"diffedit.{stage.value}"


def message_of(job: Job) -> dict[str, Any]:
    """Return the argument of a task: the job's id and contract. Everything else is in the job's record."""
    return {"id": job.id, "contract": job.contract}


def celery_app(settings: Settings) -> "Celery":
    """Return a Celery application with the configuration that client and worker must share."""
    # Importing Celery takes 0.16 s; a client that only polls never needs it.
    from diffedit.jobs.independent_celery import IndependentCelery

    url = settings.redis
    app = IndependentCelery("diffedit", broker=url.server)
    app.conf.update(
        broker_transport="diffedit.jobs.transport:Transport",
        # By default kombu accepts any certificate. Options in the URL (?ssl_...) still apply.
        broker_use_ssl={"ssl_cert_reqs": ssl.CERT_REQUIRED} if url.tls else None,
        broker_pool_limit=settings.publisher_connections,
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
        task_publish_retry_policy=PUBLISH_POLICY,
    )
    return app


def close(app: "Celery") -> None:
    """Close the connections to the broker. They are opened again when a message is sent."""
    app.pool.resize(app.pool.limit, reset=True)


def send(app: "Celery", job: Job) -> None:
    """Put the first of the job's stages left into its queue. Each stage passes the job on to the next.

    Raises:
        BrokerUnavailable, BrokerFull: the message could not be sent. If a connection broke, it may be in the queue.
    """
    from celery import chain
    from redis import OutOfMemoryError

    # The header tells which jobs have a message in a queue (`JobStore.jobs_without_message`).
    tasks = [
        app.signature(task_name(stage), queue=job.queue_of(stage), headers={"job_id": job.id})
        for stage in job.stages_left
    ]
    tasks[0].args = (message_of(job),)
    try:
        # kombu retries by itself. But if a connection breaks while a queue is declared, kombu opens a new one
        # and continues with the broken one, which raises AttributeError.
        with deadline(PUBLISH_SECONDS):
            repeated(DECLARE_ATTEMPTS, AttributeError)(chain(*tasks, app=app).apply_async)
    except Exception as error:  # kombu and Celery raise errors of many kinds, raw ones of Python among them
        if isinstance(error.__cause__ or error, OutOfMemoryError):
            raise BrokerFull from error
        reason = str(error) or type(error).__name__
        raise BrokerUnavailable(f"the job could not be queued: {reason}; check DIFFEDIT_REDIS_URL") from error
