"""`diffedit worker`: a Celery worker in this process, with the options that it needs."""

import atexit
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from diffedit.contract.stages import Lane, ModelGroup, queue_names
from diffedit_worker.app import create_app, log_json_from_the_start
from diffedit_worker.celery_ext.worker_program import run_worker
from diffedit_worker.models.profiles import default_profile
from diffedit_worker.settings import WorkerSettings

DEFAULT_NAME = "worker"


def run(
    *,
    profile: str | None,
    groups: Sequence[ModelGroup],
    lanes: Sequence[Lane],
    preload: bool,
    batch_jobs: int | None = None,
    name: str | None,
    log_level: str,
    extra: Sequence[str],
) -> int:
    """Run a worker until a signal ends it.

    Args:
        profile: the profile to serve. None means DIFFEDIT_PROFILE, or the default of this machine.
        groups: the model groups to serve.
        lanes: the lanes to serve.
        preload: whether to load the models before the first job. Replaces DIFFEDIT_PRELOAD.
        batch_jobs: how many stages to run at once. None means DIFFEDIT_BATCH_JOBS, or what suits the device.
        name: the worker's name, unique on this machine. `@` and the host name are added.
        log_level: "debug", "info", "warning", "error" or "critical".
        extra: more options of `celery worker`. They replace the ones above.

    Returns:
        The exit code of the process.

    Raises:
        InvalidRequest: an option or an environment variable has an invalid value, or there is no such profile.
    """
    settings = WorkerSettings.from_env()
    served = profile or settings.profile or default_profile()
    changes = {"profile": served, "preload": preload, "batch_jobs": batch_jobs or settings.batch_jobs}
    log_json_from_the_start(settings.log_format)
    app = create_app(settings.model_copy(update=changes))
    options = {
        "--hostname": f"{name or DEFAULT_NAME}@%h",
        "--queues": ",".join(queue_names(served, groups, lanes)),
        "--loglevel": log_level,
    }
    # Our workers need neither the other workers' events nor their clocks, and both cost Redis messages.
    arguments = [word for option in options.items() for word in option]
    arguments += ["--without-gossip", "--without-mingle", *extra]
    return run_worker(app, arguments)


def leave(code: int) -> NoReturn:
    """End this process with this exit code, without taking all modules apart: with torch that is a second of work."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
