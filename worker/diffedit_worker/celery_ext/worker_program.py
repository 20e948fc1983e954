"""Celery's `worker` command for an application that exists already.

`app.start()` would do the same, but it drops the exit code, and the command around `worker` takes its broker and its
application from variables that other programs use as well, such as BROKER_URL and APP.
"""

from collections.abc import Sequence

import click
from celery import Celery
from celery.bin.base import CLIContext
from celery.bin.worker import worker

from diffedit.errors import InvalidRequest


def run_worker(app: Celery, options: Sequence[str]) -> int:
    """Run a worker in this process until a signal ends it. Returns the exit code.

    Raises:
        InvalidRequest: Celery does not accept these options.
    """
    context = CLIContext(app=app, no_color=True, workdir=None)
    try:
        code = worker.main(list(options), "celery worker", standalone_mode=False, obj=context)
    except click.ClickException as error:
        raise InvalidRequest(f"Celery does not accept these options: {error.format_message()}") from error
    return int(code or 0)
