"""The Celery application of a worker.

`diffedit worker` starts a worker with the right options. `celery -A diffedit_worker.app worker` works as well, but all
settings come from the variables of `WorkerSettings`: no variable of Celery's and no `--broker` changes them. The import
of this module reads no environment, makes no application and imports no torch.
"""

import functools
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click
from celery import Celery
from celery.signals import after_setup_logger, after_setup_task_logger
from kombu import Queue

from diffedit.contract.stages import Stage, queue_names
from diffedit.jobs.dispatch import celery_app
from diffedit.logs import LogFormat, json_formatter, log_to_stderr
from diffedit_worker.celery_ext.publishing import publish_once
from diffedit_worker.celery_ext.queues import ServedQueues
from diffedit_worker.models.profiles import default_profile, load_profiles, profile_named
from diffedit_worker.runtime.logs import format_as_json, format_plainly
from diffedit_worker.settings import WorkerSettings
from diffedit_worker.tasks import add_tasks
from diffedit_worker.worker_process import WorkerProcess

if TYPE_CHECKING:
    from diffedit_worker.stages.definition import StageDefinition

CONFIGURATION = {
    # A worker must survive any message that somebody puts into its queue.
    "broker_transport": "diffedit_worker.celery_ext.transport:Transport",
    # In threads, so that jobs share the models, and control commands and heartbeats continue meanwhile. `WorkerProcess`
    # sets how many, when the worker starts. A number here would look like the option --concurrency.
    "worker_pool": "diffedit_worker.celery_ext.pool:TaskPool",
    "worker_concurrency": None,
    # A worker takes a message only when it is free. All other messages stay in the queue, for any worker.
    "worker_disable_prefetch": True,
    "worker_prefetch_multiplier": 1,
    # Messages are acknowledged on arrival. Redelivery after a visibility timeout repeats work and still loses messages,
    # and our transport keeps no list of unacknowledged ones.
    "task_acks_late": False,
    # The broker may be away for any time.
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    # True would lose the running job when the connection breaks.
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    # A worker would take messages from the queue and keep them for as long as the remote command `rate_limit` says.
    "worker_disable_rate_limits": True,
    "worker_hijack_root_logger": True,
    # PlainFormatter would replace colours, because they are control characters.
    "worker_log_color": False,
}


def create_app(settings: WorkerSettings, pipeline: "Mapping[Stage, StageDefinition] | None" = None) -> Celery:
    """Return the Celery application of a worker. `pipeline` replaces the functions of the stages.

    Raises:
        UnknownProfile: there is no profile of the name in the settings. Such a worker could only fail jobs.
        InvalidRequest: the profiles file cannot be used, or JSON is to be logged and a package for it is missing.
    """
    name = settings.profile or default_profile()
    profile = profile_named(load_profiles(settings.profiles_file), name)
    app = celery_app(settings)
    # The queues that a worker reads without -Q, in order of priority.
    app.conf.update(CONFIGURATION, task_queues=[Queue(queue) for queue in queue_names(name)])
    app.amqp.queues_cls = ServedQueues
    publish_once(app)
    process = WorkerProcess(app, settings, profile, pipeline)
    process.connect_signals()
    add_tasks(app, process.get_runner)
    _configure_logging(settings.log_format)
    return app


def log_json_from_the_start(log_format: LogFormat) -> None:
    """If JSON is to be logged, do so before Celery sets up its log: it warns when root starts it.

    Raises:
        InvalidRequest: a package for it is missing.
    """
    if log_format == "json":
        log_to_stderr(log_format)


def _configure_logging(log_format: LogFormat) -> None:
    # Celery logs each task's return value at INFO, which is the job with the user's texts. The runner logs enough.
    logging.getLogger("celery.app.trace").setLevel(logging.WARNING)
    wanted, other = _log_text, _log_json
    if log_format == "json":
        json_formatter()  # raises now if it cannot be made
        wanted, other = other, wanted
    for signal in (after_setup_logger, after_setup_task_logger):
        signal.disconnect(other)
        # Connecting the same function again has no effect.
        signal.connect(wanted)


def _log_text(logger: logging.Logger, **_: Any) -> None:
    format_plainly(logger)


def _log_json(logger: logging.Logger, **_: Any) -> None:
    format_as_json(logger)


@functools.cache
def _app_of_environment() -> Celery:
    _ignore_variables_of_command()
    settings = WorkerSettings.from_env()
    log_json_from_the_start(settings.log_format)
    return create_app(settings)


def _ignore_variables_of_command() -> None:
    """Let the `celery` command take no option from a variable such as CELERY_WORKER_CONCURRENCY.

    It looks for those of `worker` only after it has asked for the application.
    """
    context = click.get_current_context(silent=True)
    while context:
        context.auto_envvar_prefix, context = None, context.parent


def __getattr__(name: str) -> Celery:
    """Make `app` from the environment when somebody asks for it, which `celery -A` does."""
    if name == "app":
        return _app_of_environment()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
