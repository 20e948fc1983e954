"""The commands of our own that run beside the embedded services: workers, the web server, the sender of webhooks."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from diffedit_worker.settings import WorkerSettings

COMMAND = "import sys; from diffedit.cli import app; sys.exit(app())"
"""The `diffedit` command. `-c` works where the script of that name is not installed."""


@dataclass(frozen=True)
class StartedProgram:
    """How a program was started, so that it can be started again."""

    started_at: float
    name: str
    command: Sequence[str]
    environment: Mapping[str, str]


def diffedit_command(*words: str) -> list[str]:
    """Return how a `diffedit` command is started."""
    # -P: the modules of the current directory may have the names of ours, or of our dependencies.
    return [sys.executable, "-P", "-c", COMMAND, *words]


def worker_command(name: str, queues: Sequence[str], app: str | None, environment: Mapping[str, str]) -> list[str]:
    """Return how a worker is started. It reads all queues unless some are named, and runs our application or `app`."""
    options = ["--queues", ",".join(queues)] if queues else []
    if app:
        celery = [sys.executable, "-m", "celery", "-A", app, "worker", "--loglevel", "INFO"]
        return [*celery, "-n", f"{name}@%h", "--without-gossip", "--without-mingle", *options]
    # Only if DIFFEDIT_PRELOAD asks for it: a worker on a developer's machine starts faster without.
    preload = "--preload" if WorkerSettings.from_env(environment).preload else "--no-preload"
    return diffedit_command("worker", "--name", name, preload, "--", *options)
