"""The Celery application of a worker: `celery -A diffedit_worker.app worker`. No torch at import."""

import functools
import logging
import signal
import sys
import threading
import uuid
from typing import TYPE_CHECKING, Any

from celery.signals import (
    after_setup_logger,
    after_setup_task_logger,
    celeryd_after_setup,
    worker_ready,
    worker_shutdown,
    worker_shutting_down,
)
from kombu import Queue

from diffedit.contract.stages import queue_names
from diffedit.errors import DiffEditError
from diffedit.jobs.backend import redis_backend
from diffedit.jobs.dispatch import celery_app, send
from diffedit.jobs.store import WorkerInfo
from diffedit.settings import Settings
from diffedit_worker.celery_ext.pool import computed
from diffedit_worker.models.profiles import default_profile, load_profiles, profile_named
from diffedit_worker.runtime.logs import PlainFormatter
from diffedit_worker.runtime.maintenance import Maintenance
from diffedit_worker.tasks import add_tasks, groups_of, make_models, make_runner, worker_limits

if TYPE_CHECKING:
    from diffedit_worker.models.loading import Models
    from diffedit_worker.runtime.runner import Runner

log = logging.getLogger(__name__)

settings = Settings.from_env()
profile = settings.profile or default_profile()
# A worker without its profile could only fail jobs; better that it does not start.
profile_params = profile_named(load_profiles(settings.profiles_file), profile).params

app = celery_app(settings)
app.conf.update(
    # Whatever somebody puts into a queue, the worker lives on.
    broker_transport="diffedit_worker.celery_ext.transport:Transport",
    # What a worker reads unless -Q says otherwise, and strictly in this order, or that of -Q.
    task_queues=[Queue(name) for name in queue_names(profile)],
    # One GPU, one job that computes. In a thread, so that control commands and heartbeats go on meanwhile.
    worker_pool="diffedit_worker.celery_ext.pool:TaskPool",
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
    # PlainFormatter would take colours for what they are, control characters.
    worker_log_color=False,
)

worker_id = uuid.uuid4().hex
_leaving = threading.Event()
_send = functools.partial(send, app)
_maintenance: Maintenance | None = None


@functools.cache
def models_of(name: str) -> "Models":
    return make_models(settings, name)


@functools.cache
def runner() -> "Runner":
    return make_runner(settings, models_of, worker_id, _send, _leaving.is_set, computed)


add_tasks(app, settings, runner)

# Celery reports each task's return value at INFO: that is the job, with the user's texts. The runner reports better.
logging.getLogger("celery.app.trace").setLevel(logging.WARNING)


@after_setup_logger.connect  # type: ignore[untyped-decorator]
@after_setup_task_logger.connect  # type: ignore[untyped-decorator]
def _log_plainly(logger: logging.Logger, **_: Any) -> None:
    for handler in logger.handlers:
        handler.setFormatter(PlainFormatter(handler.formatter or logging.Formatter()))


@celeryd_after_setup.connect  # type: ignore[untyped-decorator]
def _preload(instance: Any, **_: Any) -> None:
    """Before the worker connects to anything. It ends here if a model cannot be loaded: it could only fail jobs."""
    if not settings.preload:
        return
    # Celery's handler comes later, and the first process of a container ignores what it has no handler for.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        for group in groups_of(instance.app.amqp.queues.consume_from, profile):
            models_of(profile).load(group)
    except Exception as error:
        log.critical("this worker does not start: %s", error, exc_info=not isinstance(error, DiffEditError))
        # Celery logs what else a receiver raises, and goes on.
        sys.exit(1)


@worker_ready.connect  # type: ignore[untyped-decorator]
def _start_keeper(sender: Any, **_: Any) -> None:
    """Before the first message is taken."""
    global _maintenance
    try:
        ready = runner()
    except Exception:
        # It then fails the jobs that it gets, with the reason.
        log.exception("this worker cannot run stages")
        ready = None
    queues = tuple(sorted(queue.name for queue in sender.task_consumer.queues))
    info = WorkerInfo(
        id=worker_id,
        name=sender.hostname,
        profile=profile,
        profile_params=profile_params,
        device=settings.device or "auto",
        queues=queues,
    )
    backend = redis_backend(settings, worker_limits(settings))
    _maintenance = Maintenance(
        backend.job_store, backend.worker_registry, settings, info, at=lambda: ready.at if ready else [], send=_send
    )
    _maintenance.start()


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _leave(**_: Any) -> None:
    """The running stage stops at its next step, and its job goes back into the queue."""
    _leaving.set()


@worker_shutdown.connect  # type: ignore[untyped-decorator]
def _stop_keeper(**_: Any) -> None:
    if _maintenance:
        _maintenance.stop()
