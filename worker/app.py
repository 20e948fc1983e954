"""The Celery application of a worker: `celery -A worker.app worker`. No torch at import."""

import logging
from typing import Any

from celery.signals import worker_ready, worker_shutdown
from kombu import Queue

from api_client.contract import Family, queue_name
from api_client.dispatch import celery_app
from api_client.settings import Settings
from worker.keeper import Keeper
from worker.profiles import default_profile, load_profiles, profile_named
from worker.tasks import add_tasks

settings = Settings.from_env()
profile = settings.profile or default_profile()
# A worker without its profile could only fail jobs; better that it does not start.
profile_named(load_profiles(settings.profiles_file), profile)

app = celery_app(settings)
app.conf.update(
    # What a worker reads unless -Q says otherwise.
    task_queues=[Queue(queue_name(profile, family)) for family in Family],
    # One GPU, one job. In a thread, so that control commands and heartbeats go on while the model works.
    worker_pool="worker.pool:TaskPool",
    worker_concurrency=1,
    # A worker takes a message when it is free, and no sooner: what waits, waits in the queue for everybody.
    worker_disable_prefetch=True,
    worker_prefetch_multiplier=1,
    # Acknowledged on arrival. Redelivery by visibility timeout doubles work and still loses messages.
    task_acks_late=False,
    # The broker may be away for as long as it likes.
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    # True would drop the running job when the connection breaks.
    worker_cancel_long_running_tasks_on_connection_loss=False,
    worker_hijack_root_logger=True,
)
add_tasks(app, settings)

# Celery reports each task's return value at INFO: that is the job, with the user's texts. The runner reports better.
logging.getLogger("celery.app.trace").setLevel(logging.WARNING)

_keeper: Keeper | None = None


@worker_ready.connect  # type: ignore[untyped-decorator]
def _start_keeper(sender: Any, **_: Any) -> None:
    global _keeper
    queues = tuple(sorted(queue.name for queue in sender.task_consumer.queues))
    _keeper = Keeper(settings, name=sender.hostname, profile=profile, queues=queues)
    _keeper.start()


@worker_shutdown.connect  # type: ignore[untyped-decorator]
def _stop_keeper(**_: Any) -> None:
    if _keeper:
        _keeper.stop()
