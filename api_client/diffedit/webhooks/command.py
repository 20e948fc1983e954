"""`diffedit webhooks`: a sender in this process."""

import logging
import signal
import threading

from diffedit.jobs.backend import redis_backend
from diffedit.logs import log_to_stderr
from diffedit.settings import Settings
from diffedit.trace_export import export_traces, flush_traces
from diffedit.webhooks.sender import Sender


def run(threads: int) -> None:
    """Send events until SIGINT or SIGTERM, after which those that are being sent are finished.

    Raises:
        InvalidRequest: a setting is missing or not valid.
    """
    settings = Settings.from_env()
    log_to_stderr(settings.log_format)
    backend = redis_backend(settings.model_copy(update={"max_connections": max(settings.max_connections, threads + 1)}))
    sender, stop = Sender(settings, backend.outbox), threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    export_traces("diffedit-webhooks")
    logging.info("sending webhooks")
    try:
        sender.run(stop, threads)
    finally:
        backend.close()
        flush_traces()
