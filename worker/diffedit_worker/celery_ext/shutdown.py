"""A function that is called whenever a Celery worker ends, before Celery waits for the tasks that run.

The signal `worker_shutting_down` tells of SIGTERM and SIGINT only. A worker also ends by the remote command `shutdown`,
restarts on SIGHUP, and ends after an error that Celery cannot recover from.
"""

from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.bootsteps import StartStopStep


def call_before_shutdown(app: Celery, function: Callable[[], object]) -> None:
    """Let a worker of this application call the function when it begins to end."""

    class BeforeShutdown(StartStopStep):  # type: ignore[misc]
        def close(self, worker: Any) -> None:
            function()

    app.steps["worker"].add(BeforeShutdown)
