"""From a job to Celery: one task per stage, each sent to the queue of its profile and model family."""

import ssl
from typing import TYPE_CHECKING, Any

from diffedit.contract.job import Job
from diffedit.contract.stages import Stage
from diffedit.errors import BrokerFull, BrokerUnavailable
from diffedit.settings import Settings

if TYPE_CHECKING:
    from celery import Celery


def task_name(stage: Stage) -> str:
    return f"diffedit.{stage.value}"


def message_of(job: Job) -> dict[str, Any]:
    """What a message says of a job: its id. All else is in its record, which no message can gainsay."""
    return {"id": job.id}


def celery_app(settings: Settings) -> "Celery":
    """A Celery application with what client and worker must agree on."""
    # Celery costs 0.16 s to import; a client that only polls never needs it.
    from celery import Celery

    url = settings.redis_url.get_secret_value()
    app = Celery("diffedit", broker=url, set_as_current=False)
    app.conf.update(
        # kombu would talk to any server, whatever its certificate. What the URL says (?ssl_...) goes all the same.
        broker_use_ssl={"ssl_cert_reqs": ssl.CERT_REQUIRED} if url.startswith("rediss:") else None,
        # JSON only: a worker must never unpickle what a queue holds.
        task_serializer="json",
        accept_content=["json"],
        # The record on the board is the one truth about a job, so no result backend.
        task_ignore_result=True,
        broker_transport_options={
            # Half-open sockets would hang a worker for minutes without these.
            "socket_timeout": 30,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 25,
            # Queues are served strictly in the order in which a worker names them.
            "queue_order_strategy": "priority",
        },
        task_publish_retry_policy={"max_retries": 4, "interval_start": 0.1, "interval_step": 0.2, "interval_max": 1},
    )
    return app


def send(app: "Celery", job: Job) -> None:
    """Put the first of the job's stages that are left into its queue; each stage hands the job on to the next.

    Raises:
        BrokerUnavailable, BrokerFull: the broker did not take the message; nothing was queued.
    """
    from celery import chain
    from kombu.exceptions import OperationalError
    from kombu.utils.functional import retry_over_time
    from redis import OutOfMemoryError, RedisError

    tasks = [
        app.signature(
            task_name(stage),
            queue=job.queue_of(stage),
            # What Celery shows of the arguments in events and logs, where the user's texts do not belong; and by what
            # the board finds a job in its queue.
            argsrepr=f"<job {job.id}>",
            kwargsrepr="",
        )
        for stage in job.stages_left
    ]
    tasks[0].args = (message_of(job),)
    try:
        # kombu retries by itself, but when a connection breaks while a queue is declared, it makes a new one and then
        # goes on with the broken one: an AttributeError.
        retry_over_time(chain(*tasks, app=app).apply_async, AttributeError, max_retries=2, interval_start=0)
    except (OperationalError, RedisError) as error:
        if isinstance(error.__cause__ or error, OutOfMemoryError):
            raise BrokerFull from error
        raise BrokerUnavailable(f"the job could not be queued: {error}; check DIFFEDIT_REDIS_URL") from error
